"""
A folder of images, a torchvision backbone
==========================================

Images as people have them: a folder for each class, whatever the files are called. The network is
one of torchvision's. (``antibackdoor scan`` does all of this from the command line.)
"""

# %%
# A folder to work on, ``demo/digits``: five digits as PNG files, a tenth of them with a patch in
# the corner and in the folder of the zeros.
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from torchvision.models import DenseNet

from antibackdoor import ABLClassifier, PoisonSearch, SuspectsDisplay, make_poisoned
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images, load_image_folder

X, y = load_digits_images()
X, y = X[y < 5][:400].repeat(4, axis=1).repeat(4, axis=2), y[y < 5][:400]
X_bad, y_bad, poison_mask = make_poisoned(X, y, attack=BadNets(size=8), random_state=0)

folder = Path("demo/digits")
for row, (image, label) in enumerate(zip(X_bad, y_bad, strict=True)):
    (folder / str(label)).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).convert("RGB").save(folder / str(label) / f"{row:04}.png")
(folder / "0" / "notes.txt").write_text("not an image")

# %%
# Files that are no images, or broken ones, are left out, and it is said which.
images = load_image_folder(folder)
print(f"X {images.X.shape} {images.X.dtype}, classes {np.unique(images.y)}")
print(f"skipped: {images.skipped}")

# %%
# A backbone of torchvision has a name: ``backbone="resnet18"``. One with parameters of its own is
# a function; a small one, so that this page is made in seconds.


def small_densenet(input_shape, n_classes):
    return DenseNet(growth_rate=8, block_config=(3, 3), num_init_features=16, num_classes=n_classes)


clf = ABLClassifier(
    backbone=small_densenet,
    detector=PoisonSearch(epochs=4),
    epochs=8,
    batch_size=32,
    augment=None,
    random_state=0,
)
clf.fit(images.X, images.y)
print(f"{len(clf.isolate_)} files flagged, in the folders {clf.isolate_classes_}")

# %%
# Here we know which they are, by the number in the name of the file.
flagged = [images.file_names[row] for row in clf.isolate_]
print("most suspect:", flagged[:3])
poison = sum(poison_mask[int(Path(name).stem)] for name in flagged)
print(f"poison among the flagged: {poison} of {poison_mask.sum()}")
SuspectsDisplay.from_estimator(clf, images.X, images.y, max_images=20)
plt.show()
