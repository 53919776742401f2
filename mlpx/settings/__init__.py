"""The settings that all experiments have in common, and TOML files of settings. Free of torch."""
