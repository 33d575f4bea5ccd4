"""Rules of the capture adapters that need no folder and no socket."""
