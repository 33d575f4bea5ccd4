"""From the hot folder to a job in the queue: claim, gate, register, crop, spool."""
