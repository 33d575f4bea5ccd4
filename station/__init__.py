"""Edge inspection station: pictures of parts in, verdicts at the PLC and on ZeroMQ out."""

__version__ = "0.1.0"
