"""How good a policy is: as a language model of expert prompts, and by what it writes."""
