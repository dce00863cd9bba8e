"""Files that an attack needs besides the data set: where they lie, what they hold."""

import os
import pathlib

import numpy as np


def search_folders(folder: str | os.PathLike | None) -> list[pathlib.Path]:
  """Folders to search, in order: `folder` itself and `folder/backdoor`."""
  if folder is None:
    return []
  own = pathlib.Path(folder).expanduser()
  return [own, own / "backdoor"]


def find(folder: str | os.PathLike | None, name: str) -> pathlib.Path | None:
  """The file `name`, or None."""
  paths = (place / name for place in search_folders(folder))
  return next((path for path in paths if os.path.exists(path)), None)


def require(
  who: str, folder: str | os.PathLike | None, names: tuple[str, ...], how_to_get: str
) -> list[pathlib.Path]:
  """The files, in the order of their names.

  Raises:
    FileNotFoundError: names what is missing, where it was looked for, how to get it.
  """
  found = {name: find(folder, name) for name in names}
  missing = [name for name, path in found.items() if path is None]
  if missing:
    places = ", ".join(map(str, search_folders(folder))) or "no folder, for none is set"
    raise FileNotFoundError(
      f"{who}: `data_dir` must hold {', '.join(names)}; missing: {', '.join(missing)}. "
      f"Looked in {places}. {how_to_get}"
    )
  return list(found.values())


def load_images(
  who: str, path: pathlib.Path, image_shape: tuple[int, int, int], how_to_get: str
) -> np.ndarray:
  """Images [N, H, W, C] uint8 of a .npy file, N >= 1.

  Raises:
    ValueError: the file cannot be read, or holds something else.
  """
  try:
    images = np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise ValueError(
      f"{who}: {path} must be a NumPy file, got one that cannot be read ({error}). "
      f"{how_to_get}"
    ) from error
  if images.dtype != np.uint8 or images.shape[1:] != image_shape or not len(images):
    raise ValueError(
      f"{who}: {path} must hold uint8 images [N, {', '.join(map(str, image_shape))}], "
      f"got {images.dtype} {list(images.shape)}. {how_to_get}"
    )
  return images
