"""Facts about the machine, the model and the data; (recipe, facts) -> Plan."""
