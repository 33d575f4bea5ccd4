"""Tests of the exporter. The ones in reference/ need PyTorch and transformers: make test-export."""
