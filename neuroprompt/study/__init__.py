"""The study of modifiers: which of them helps which generator."""
