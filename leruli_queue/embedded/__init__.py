"""The one-machine stack of ``leruli-queue up``: every real part, started and watched here."""
