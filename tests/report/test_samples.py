"""Pictures of samples in one file."""

import base64
import io

import numpy as np
from PIL import Image

from priorbench.report.samples import sprite


def test_a_sprite_has_every_image_at_its_place():
    images = np.arange(12, dtype=np.uint8).repeat(4).reshape(2, 6, 1, 2, 2) * 20
    picture = Image.open(
        io.BytesIO(base64.b64decode(sprite(list(images), 6, (2, 2)).partition(",")[2]))
    )
    assert picture.size == (6 * 3 - 1, 2 * 3 - 1)
    pixels = np.asarray(picture)
    assert [pixels[3 * i, 3 * j, 0] for i in range(2) for j in range(6)] == [
        20 * k for k in range(12)
    ]
    assert pixels[2].max() == 0  # transparent lines between
