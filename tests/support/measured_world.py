"""What an attempt used, as a receipt says it."""

USED = {
    "wallseconds": 10.0,
    "cpuseconds": 19.5,
    "peakmemorymb": 900,
    "peaknocachemb": 300,
    "diskmb": 40,
    "imageseconds": 1.5,
    "inputseconds": 0.25,
    "outputseconds": 2.0,
}
