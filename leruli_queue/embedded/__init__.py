"""The one-machine stack of ``leruli-queue up``: starts and watches all real parts."""
