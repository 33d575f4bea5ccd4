"""The model behind an interface: `base` says what it must do, `llama` is the real one."""
