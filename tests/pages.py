"""A classifier that flags what it is told, and the page of its report, read back."""

import base64
import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from antibackdoor.utils import safe_cell


class Flagging(ClassifierMixin, BaseEstimator):
    """Suspects rows by their number: the first is the most suspect."""

    def __init__(self, n_flagged=3, false_alarm_rate=0.05, layout="auto", image_shape=None):
        self.n_flagged = n_flagged
        self.false_alarm_rate = false_alarm_rate
        self.layout = layout
        self.image_shape = image_shape

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.input_shape_ = X.shape[1:]
        self.isolate_scores_ = np.linspace(1, 0, len(X))
        if self.n_flagged == 0:
            self.isolate_threshold_ = np.inf
        else:
            self.isolate_threshold_ = float(self.isolate_scores_[self.n_flagged])
        self.isolate_mask_ = self.isolate_scores_ > self.isolate_threshold_
        self.isolate_ = np.flatnonzero(self.isolate_mask_)
        self.isolate_classes_ = np.unique(y[self.isolate_mask_])
        return self


class Page(HTMLParser):
    """The elements of a page, and the text in those that hold no others."""

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags, self.texts, self.inside = [], {}, None
        self.feed(self.text)
        self.data = json.loads(self.texts["script", "data"])

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

        self.inside = (tag, dict(attributes).get("id"))

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.texts[self.inside] = self.texts.get(self.inside, "") + data

    def tiles(self):
        """Return the images as arrays, in order."""
        from PIL import Image

        sheets = self.data["sheets"]
        width, height = sheets["width"], sheets["height"]
        found = []
        for uri in sheets["uris"]:
            kind, _, content = uri.partition(",")
            assert kind == "data:image/png;base64"
            sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
            for down in range(0, sheet.shape[0], height):
                for across in range(0, sheet.shape[1], width):
                    found.append(sheet[down : down + height, across : across + width])
        return np.stack(found[: len(self.data["rows"])])

    def save(self, path, decisions):
        """Write what the page would save: decisions by their row, the others undecided."""
        data = self.data
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow([*data["columns"], *(["file_name"] if data["files"] else [])])
            for number, row in enumerate(data["rows"]):
                cells = [f"{number + 1} of {len(data['rows'])}", row]
                cells += [data["labels"][data["codes"][number]], data["scores"][number]]
                cells += [int(data["n_flagged"] > 0), decisions.get(row, "undecided")]
                cells += [data["digests"][number]]
                cells += [data["files"][number]] if data["files"] else []
                table.writerow([safe_cell(cell) for cell in cells])
        return path
