"""A classifier's kernel whose planes can be worked out by hand."""

import numpy as np

# Templates of four classes in o = 4 dimensions: the first three differ along the first
# and third axis only.
KERNEL = np.array(
  [
    [1.0, 4.0, 1.0, 0.0],
    [7.0, 7.0, 7.0, 0.0],
    [2.0, 2.0, 5.0, 0.0],
    [3.0, 3.0, 3.0, 9.0],
  ]
)
