"""How dates look where Django writes them: as on the hub's own pages."""
