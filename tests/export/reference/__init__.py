"""Comparison with Hugging Face and with llama.cpp's own converter."""
