"""The models, fonts and texts that ship with the package: data alone. `neuroprompt.models` finds them."""
