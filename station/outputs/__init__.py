"""Places a verdict goes to, each behind `base.Output`."""
