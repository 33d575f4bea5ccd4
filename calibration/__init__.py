"""Teach a product, measure the station, set its limits. Uses the station; of it only the command line knows this."""
