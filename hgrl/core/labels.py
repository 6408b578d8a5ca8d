"""What the ids in a mask mean."""

VOID = 255  # pixels that are not scored; `hgrl.data` maps every data set's void to it
MOST_CLASSES = 1000  # of labels of whole images: ImageNet's
