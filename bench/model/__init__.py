"""What a larger cluster would do: a queueing model, fed with what simulations measured.

``python -m bench.model`` runs it; bench/README.md says what it leaves out.
"""
