"""Slots: an allocation of Nomad that runs one attempt after the other."""
