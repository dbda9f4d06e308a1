"""An organization's configuration as one YAML file: what it would change, applying it, and writing it down."""
