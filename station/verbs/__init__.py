"""The verbs of the command line, by what they are for. No logic; each imports what it needs when it is used."""
