"""How any experiment trains: the loop, its records, batch order, signals, devices."""
