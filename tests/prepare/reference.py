"""What Pillow, numpy and scikit-learn make of requests and outputs: the figures that pre- and post-processing are held against.

    python3 -m venv .venv && .venv/bin/pip install -r tests/prepare/requirements.txt
    .venv/bin/python tests/prepare/reference.py

writes `images/`, `preprocess.json` and `postprocess.json` beside itself. `agent/src/runtime/reference_tests.rs` compares.
Each case states its own tolerance. For images it counts levels of a pixel (1 of 256), before scaling:

    0   decoding of lossless files, orientation, channels, grey by BT.601, letterbox fill, copies, normalisation
    1   resizing (both sides work in fixed point), transparency, grey by BT.709 (rounded, and Pillow has none)
    3   lossy files: decoders differ in their transforms and in how they enlarge chroma (0 is not promised by any standard)
"""

import base64
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

HERE = Path(__file__).resolve().parent
IMAGES = HERE / "images"
RNG = np.random.default_rng(20_261_123)
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "catmull-rom": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


def picture(width=37, height=23):
    """Smooth colours, an edge, and some noise."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / (width - 1)
    green = 255 * y / (height - 1)
    blue = 127.5 + 127.5 * np.sin(x / 3) * np.cos(y / 4)
    pixels = np.stack([red, green, blue], -1)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 5)
    pixels += RNG.normal(0, 6, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")


def smooth(width=48, height=32):
    """Nothing that a lossy format would have to give up."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([60 + 3 * x, 200 - 4 * y, 90 + x + y], -1)
    return Image.fromarray(pixels.astype(np.uint8), "RGB")


def inks():
    """JPEGs of four inks, as print shops send them: CMYK, inverted as is Adobe's custom, with its marker and without, and YCCK."""
    y, x = np.mgrid[0:32, 0:48]
    pixels = np.concatenate([255 - np.asarray(smooth()), (20 + 2 * x + y).astype(np.uint8)[:, :, None]], -1)
    cmyk = save(Image.fromarray(pixels, "CMYK"), "cmyk.jpg", quality=95, subsampling=0)
    # Pillow writes no YCCK: its numbers are written as if they were inks, and the marker says what they are.
    planes = smooth().convert("YCbCr").point(lambda level: 255 - level).split()
    save(Image.merge("CMYK", [*planes, cmyk.getchannel("K")]), "ycck.jpg", quality=95, subsampling=2)
    data = bytearray((IMAGES / "ycck.jpg").read_bytes())
    data[data.index(b"Adobe") + 11] = 2
    (IMAGES / "ycck.jpg").write_bytes(data)
    # The few programs that leave the marker out invert all the same, and so do those that read.
    data = (IMAGES / "cmyk.jpg").read_bytes()
    at = data.index(b"Adobe") - 4
    (IMAGES / "cmyk-bare.jpg").write_bytes(data[:at] + data[at + 16 :])
    return {file: Image.open(IMAGES / file) for file in ("cmyk.jpg", "ycck.jpg", "cmyk-bare.jpg")}


def b64(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


CASES = []


def declared(**changes):
    base = {
        "kind": "image", "tensor": "x", "width": 16, "height": 12, "channels": "rgb", "layout": "nhwc",
        "resize": "bilinear", "scale": 1.0, "mean": [], "std": [],
    }
    return base | changes


def image_case(name, file, expected, levels, dtype="UINT8", **changes):
    """`expected` is [height, width(, channels)] of uint8, or what the tensor holds for other types."""
    expected = np.asarray(expected)
    if dtype == "UINT8" and expected.ndim == 2:
        expected = expected[:, :, None]
    shape = [1, *expected.shape] if expected.ndim == 3 else list(expected.shape)
    height, width = (shape[2], shape[3]) if changes.get("layout") == "nchw" else (shape[1], shape[2])
    CASES.append({
        "name": name, "file": f"images/{file}",
        "preprocess": declared(width=int(width), height=int(height), **changes),
        "inputs": [{"name": "x", "dtype": dtype, "shape": [int(n) for n in shape]}],
        "expected": [b64(expected)], "levels": levels,
    })


def save(image, file, **options):
    IMAGES.mkdir(exist_ok=True)
    image.save(IMAGES / file, **options)
    return Image.open(IMAGES / file)


def images():
    plain = picture()
    save(plain, "plain.png", optimize=True)
    array = np.asarray(plain)

    # Formats and kinds of pixels, as they are.
    for file, options in {"plain.bmp": {}, "lossless.webp": {"lossless": True}}.items():
        opened = save(plain, file, **options).convert("RGB")
        image_case(file, file, opened, 0)
    image_case("plain.png", "plain.png", array, 0)
    soft = smooth()
    for file, options in {
        "soft-444.jpg": {"quality": 95, "subsampling": 0},
        "soft-420.jpg": {"quality": 90, "subsampling": 2},
        "soft-progressive.jpg": {"quality": 90, "progressive": True},
        "soft-lossy.webp": {"quality": 90},
    }.items():
        image_case(file, file, save(soft, file, **options).convert("RGB"), 3)
    grey_jpeg = save(soft.convert("L"), "grey.jpg", quality=90)
    image_case("grey.jpg", "grey.jpg", grey_jpeg, 3, channels="gray")
    image_case("grey as three", "grey.jpg", grey_jpeg.convert("RGB"), 3)
    for file, opened in inks().items():
        image_case(file, file, opened.convert("RGB"), 3)
    palette = save(plain.quantize(32), "palette.png")
    image_case("palette", "palette.png", palette.convert("RGB"), 0)
    bits = save(plain.convert("1"), "one-bit.png")
    image_case("one bit", "one-bit.png", np.asarray(bits.convert("L")), 0, channels="gray", luma="bt601")
    deep = (np.arange(23 * 37).reshape(23, 37) * 76 % 65_536).astype(np.uint16)
    save(Image.fromarray(deep), "deep.png")
    image_case("16 bits", "deep.png", np.rint(deep / 257).astype(np.uint8), 0, channels="gray")

    # Transparency.
    alpha = plain.copy()
    alpha.putalpha(Image.fromarray((array[:, :, 0] // 2 + array[:, :, 1] // 2).astype(np.uint8), "L"))
    save(alpha, "alpha.png")
    image_case("alpha dropped", "alpha.png", alpha.convert("RGB"), 0)
    behind = Image.new("RGBA", plain.size, (10, 200, 30, 255))
    image_case("alpha over green", "alpha.png", Image.alpha_composite(behind, alpha).convert("RGB"), 1, background=[10, 200, 30])
    clear = plain.quantize(16)
    save(clear, "palette-clear.png", transparency=3)
    opened = Image.open(IMAGES / "palette-clear.png").convert("RGBA")
    white = Image.new("RGBA", plain.size, (255, 255, 255, 255))
    image_case("palette over white", "palette-clear.png", Image.alpha_composite(white, opened).convert("RGB"), 0, background=[255, 255, 255])
    save(Image.merge("LA", (plain.convert("L"), plain.getchannel("R"))), "grey-alpha.png")
    image_case("grey with alpha", "grey-alpha.png", plain.convert("L"), 0, channels="gray")

    # Grey.
    image_case("grey by BT.601", "plain.png", plain.convert("L"), 0, channels="gray", luma="bt601")
    weighed = array.astype(np.int64) @ [2126, 7152, 722] // 10_000
    image_case("grey by BT.709", "plain.png", weighed.astype(np.uint8), 1, channels="gray")

    # Orientation.
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = f"turned-{orientation}.jpg"
        opened = save(soft, file, quality=95, subsampling=0, exif=exif)
        image_case(f"orientation {orientation}", file, ImageOps.exif_transpose(opened).convert("RGB"), 3, exif_orientation=True)
        if orientation == 6:
            image_case("orientation not asked for", file, opened.convert("RGB"), 3)
    exif = Image.Exif()
    exif[0x0112] = 8
    opened = save(plain, "turned.webp", lossless=True, exif=exif)
    image_case("orientation in WebP", "turned.webp", ImageOps.exif_transpose(opened).convert("RGB"), 0, exif_orientation=True)
    opened = save(plain, "turned.png", exif=exif)
    image_case("orientation in PNG", "turned.png", ImageOps.exif_transpose(opened).convert("RGB"), 0, exif_orientation=True)

    # Sizes: smaller, larger, one side each.
    for name, pillow in FILTERS.items():
        for size in [(16, 12), (60, 41), (50, 9)]:
            image_case(f"{name} to {size}", "plain.png", plain.resize(size, pillow), 1, resize=name)
    image_case("grey bilinear", "plain.png", plain.convert("L").resize((10, 10), Image.Resampling.BILINEAR), 1, channels="gray", luma="bt601")
    for name, size in {"smaller": (16, 12), "larger": (60, 41)}.items():
        image_case(f"bilinear without antialias, {name}", "plain.png", bilinear(array, size), 1, antialias=False)

    # Fits.
    for target, short in [((16, 16), 20), ((16, 16), 16), ((12, 20), None), ((30, 8), None)]:
        changes = {"short_side": short} if short else {}
        image_case(f"crop {target} of {short}", "plain.png", cropped(plain, target, short), 1, fit="crop", **changes)
    for target in [(16, 12), (50, 10), (9, 40)]:
        image_case(f"centre crop {target}", "plain.png", centre(array, target, (9, 8, 7)), 0, fit="centre-crop", fill=[9, 8, 7])
    for target in [(32, 32), (20, 50), (64, 64)]:
        for align in ["centre", "top-left"]:
            expected = letterboxed(plain, target, (114, 115, 116), align)
            image_case(f"letterbox {target} {align}", "plain.png", expected, 1, fit="letterbox", align=align, fill=[114, 115, 116])

    # Arithmetic and order.
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    scaled = (array.astype(np.float32) * np.float32(1 / 255) - mean) / std
    arithmetic = {"scale": 1 / 255, "mean": mean.tolist(), "std": std.tolist()}
    image_case("normalised NCHW", "plain.png", scaled.transpose(2, 0, 1)[None], 0, "FP32", layout="nchw", **arithmetic)
    image_case("normalised NHWC", "plain.png", scaled[None], 0, "FP32", **arithmetic)
    reverse = (array[:, :, ::-1].astype(np.float32) - np.float32([104, 117, 123])) / np.float32([1, 2, 4])
    image_case("Caffe's BGR", "plain.png", reverse.transpose(2, 0, 1)[None], 0, "FP32", layout="nchw", channels="bgr",
               mean=[104.0, 117.0, 123.0], std=[1.0, 2.0, 4.0])
    image_case("BGR as bytes", "plain.png", array[:, :, ::-1].transpose(2, 0, 1)[None], 0, "UINT8", layout="nchw", channels="bgr")


def bilinear(array, size):
    """Of the two nearest pixels along each side, pixel centres at halves: what OpenCV's INTER_LINEAR does."""
    def axis(values, to):
        count = values.shape[0]
        at = np.clip((np.arange(to) + 0.5) * count / to - 0.5, 0, count - 1)
        low = np.minimum(np.floor(at).astype(int), count - 1)
        high = np.minimum(low + 1, count - 1)
        part = (at - low).reshape(-1, *[1] * (values.ndim - 1))
        return values[low] * (1 - part) + values[high] * part
    width, height = size
    rows = axis(array.astype(float), height)
    return np.rint(axis(rows.swapaxes(0, 1), width).swapaxes(0, 1)).astype(np.uint8)


def cropped(image, target, short):
    """torchvision's Resize(short), CenterCrop; without `short` the smallest size that covers the target."""
    (width, height), (to_width, to_height) = image.size, target
    if short:
        size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    elif to_width / width >= to_height / height:
        size = (to_width, int(to_width * height / width))
    else:
        size = (int(to_height * width / height), to_height)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - to_width) / 2), round((size[1] - to_height) / 2)
    return resized.crop((left, top, left + to_width, top + to_height))


def centre(array, target, fill):
    """torchvision's CenterCrop, with its padding."""
    (height, width, _), (to_width, to_height) = array.shape, target
    canvas = np.empty((max(height, to_height), max(width, to_width), 3), np.uint8)
    canvas[:] = fill
    top, left = max(0, (to_height - height) // 2), max(0, (to_width - width) // 2)
    canvas[top : top + height, left : left + width] = array
    top, left = round((canvas.shape[0] - to_height) / 2), round((canvas.shape[1] - to_width) / 2)
    return canvas[top : top + to_height, left : left + to_width]


def letterbox_plan(size, target, align):
    """Ultralytics' letterbox."""
    (width, height), (to_width, to_height) = size, target
    factor = min(to_width / width, to_height / height)
    inner = (round(width * factor), round(height * factor))
    if align == "top-left":
        return inner, (0, 0)
    left, top = (to_width - inner[0]) / 2, (to_height - inner[1]) / 2
    return inner, (round(left - 0.1), round(top - 0.1))


def letterboxed(image, target, fill, align):
    inner, at = letterbox_plan(image.size, target, align)
    canvas = Image.new("RGB", target, fill)
    canvas.paste(image.resize(inner, Image.Resampling.BILINEAR), at)
    return canvas


def table_case(name, request, preprocess, inputs, expected):
    CASES.append({
        "name": name, "json": request, "preprocess": {"kind": "tabular", **preprocess},
        "inputs": [{"name": n, "dtype": d, "shape": s} for n, d, s in inputs],
        "expected": [b64(array) for array in expected], "levels": 0,
    })


def tables():
    colours, sizes = ["red", "green", "blue"], ["S", "M", "L"]
    rows = [
        {"size": "M", "weight": 1.5, "colour": "blue"},
        {"size": "XL", "weight": None, "colour": "pink"},
        {"size": "S", "weight": -2, "colour": "red"},
    ]
    ordinal = OrdinalEncoder(categories=[sizes], handle_unknown="use_encoded_value", unknown_value=-1)
    one_hot = OneHotEncoder(categories=[colours], handle_unknown="ignore", sparse_output=False)
    column = lambda key: np.array([[row[key]] for row in rows], object)
    index = ordinal.fit([[s] for s in sizes]).transform(column("size")).astype(np.float32)
    hot = one_hot.fit([[c] for c in colours]).transform(column("colour")).astype(np.float32)
    weight = np.array([[1.5], [np.nan], [-2]], np.float32)
    details = {
        "size": {"categories": sizes, "unknown": {"value": -1.0}},
        "colour": {"categories": colours, "encoding": "one-hot", "unknown": {"value": 0.0}},
    }
    features = ["size", "weight", "colour"]
    table_case("encoders of scikit-learn, one tensor", rows,
               {"tensor": "x", "features": features, "missing": "nan", "details": details},
               [("x", "FP32", ["N", 5])], [np.hstack([index, weight, hot])])
    # Integers hold no NaN, so this one may not be missing.
    details = details | {"size": details["size"] | {"missing": "refuse"}}
    table_case("a tensor for each feature", rows,
               {"tensor": "", "features": features, "missing": "nan", "details": details, "per_feature": True},
               [("colour", "FP32", ["N", 3]), ("size", "INT64", ["N", 1]), ("weight", "FP64", ["N"])],
               [hot, index.astype(np.int64), weight[:, 0].astype(np.float64)])


def byte_case(name, body, preprocess, dtype, expected):
    CASES.append({
        "name": name, "body": base64.b64encode(body).decode(), "preprocess": {"kind": "bytes", "tensor": "x", **preprocess},
        "inputs": [{"name": "x", "dtype": dtype, "shape": [1, len(expected)]}],
        "expected": [b64(np.array(expected, {"INT32": np.int32, "INT64": np.int64}[dtype]))], "levels": 0,
    })


def bodies():
    """Magika's features: the stripped start, and the end, each padded with 256 on its open side."""
    for name, body in {"short": b" \n\x0bshort text\t ", "long": bytes(range(256)) * 3, "empty": b"", "blank": b" \n "}.items():
        kept = body.strip()
        head, tail = list(kept[:64]), list(kept[-32:])
        expected = head + [256] * (64 - len(head)) + [256] * (32 - len(tail)) + tail
        byte_case(f"as magika, {name}", body, {"head": 64, "tail": 32, "pad": 256, "strip": True}, "INT32", expected)
    text = "Grüße, 世界".encode()
    expected = ([b + 1 for b in text] + [0] * 40)[:24]
    byte_case("text with padding 0", text, {"head": 24, "pad": 0, "offset": 1, "utf8": True}, "INT64", expected)


OUTPUTS = []


def output_case(name, postprocess, outputs, expected, labels=(), image=None, picture=None):
    """`expected` are plain dictionaries as the server answers them; scores within 1e-6, boxes within 0.01 pixels."""
    OUTPUTS.append({
        "name": name, "postprocess": postprocess, "labels": list(labels),
        "outputs": [{"name": n, "dtype": "FP32", "shape": s, "data": b64(np.float32(a)), "sizes": list(np.shape(a))} for n, s, a in outputs],
        "image": image, "picture": picture, "expected": expected,
    })


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def best_first(scores, count, labels):
    order = np.argsort(-scores, kind="stable")[:count]
    return [{"class": int(c), "label": labels[c] if labels else None, "score": float(scores[c])} for c in order]


def classes():
    labels = [f"l{i}" for i in range(6)]
    logits = np.float32(RNG.normal(0, 3, (4, 6))).astype(float)
    logits[2, 3] = logits[2, 1]
    for activation, way in {"softmax": softmax, "sigmoid": sigmoid}.items():
        scores = way(logits)
        thresholds = {"l1": 0.99, "l4": 0.2}
        expected = []
        for row in scores:
            top = best_first(row, 3, labels)
            limit = thresholds.get(top[0]["label"], 0.6)
            expected.append({"class": top[0]["class"], "label": top[0]["label"] if top[0]["score"] >= limit else None,
                             "score": top[0]["score"], "top": top})
        output_case(f"classes by {activation}", {"kind": "classification", "tensor": "y", "activation": activation, "top_k": 3,
                    "threshold": 0.6, "thresholds": thresholds}, [("y", ["N", 6], logits)], expected, labels)
    held = {"l0": 0.1, "l5": 0.9}
    expected = []
    for row in sigmoid(logits):
        ranked = best_first(row, 6, labels)
        expected.append({"labels": [r for r in ranked if r["score"] >= held.get(r["label"], 0.5)]})
    output_case("labels that hold", {"kind": "multi-label", "tensor": "y", "activation": "sigmoid", "threshold": 0.5, "thresholds": held},
                [("y", ["N", 6], logits)], expected, labels)
    values = np.float32(RNG.normal(0, 100, (3, 1)))
    output_case("a number with its unit", {"kind": "regression", "tensor": "y", "unit": "kWh"}, [("y", ["N", 1], values)],
                [{"value": float(v), "unit": "kWh"} for v in values[:, 0]])


def iou(one, others):
    left, top = np.maximum(one[0], others[:, 0]), np.maximum(one[1], others[:, 1])
    right, bottom = np.minimum(one[2], others[:, 2]), np.minimum(one[3], others[:, 3])
    shared = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    area = lambda b: np.clip(b[..., 2] - b[..., 0], 0, None) * np.clip(b[..., 3] - b[..., 1], 0, None)
    return shared / (area(one) + area(others) - shared)


def nms(boxes, scores, classes, limit, agnostic, most):
    order, kept = list(np.argsort(-scores, kind="stable")), []
    while order and len(kept) < most:
        first = order.pop(0)
        kept.append(first)
        if order:
            rivals = np.array(order)
            gone = iou(boxes[first], boxes[rivals]) > limit
            if not agnostic:
                gone &= classes[rivals] == classes[first]
            order = [int(o) for o, g in zip(rivals, gone) if not g]
    return kept


def scene(anchors=80, size=(64, 64), objects=5):
    """Boxes crowded around a few places, as a detector gives them."""
    centres = RNG.uniform(8, 56, (objects, 2))
    which = RNG.integers(0, objects, anchors)
    centre = centres[which] + RNG.normal(0, 2, (anchors, 2))
    side = RNG.uniform(8, 24, (objects, 2))[which] * RNG.uniform(0.8, 1.2, (anchors, 2))
    boxes = np.float32(np.hstack([centre - side / 2, centre + side / 2]))
    return boxes.astype(float)


def detection_case(name, layout, fmt="xyxy", unit="pixels", activation="none", objectness=False, background=False,
                   agnostic=False, threshold=0.3, limit=0.5, most=100, fit=None, picture=(200, 100)):
    labels, count, anchors = ["cat", "dog", "cow"], 3, 80
    boxes = scene(anchors)
    raw_count = count + background
    raw = np.float32(RNG.normal(0, 2, (anchors, raw_count))).astype(float)
    if activation == "none":
        raw = np.float32(sigmoid(raw)).astype(float)
    confidence = np.float32(RNG.normal(1, 1, anchors)).astype(float)
    if activation == "none":
        confidence = np.float32(sigmoid(confidence)).astype(float)
    left, top, right, bottom = boxes.T
    numbers = {
        "xyxy": [left, top, right, bottom], "yxyx": [top, left, bottom, right], "xywh": [left, top, right - left, bottom - top],
        "cxcywh": [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top],
    }[fmt]
    sent = np.float32(np.stack(numbers, -1) / (64 if unit == "relative" else 1))

    # Back from what was sent, so that rounding to binary32 is on both sides.
    a, b, c, d = sent.astype(float).T * (64 if unit == "relative" else 1)
    boxes = np.stack({"xyxy": [a, b, c, d], "yxyx": [b, a, d, c], "xywh": [a, b, a + c, b + d],
                      "cxcywh": [a - c / 2, b - d / 2, a + c / 2, b + d / 2]}[fmt], -1)
    way = {"none": lambda x: x, "sigmoid": sigmoid, "softmax": softmax}[activation]
    probabilities = way(raw)[:, int(background):]
    cls, score = probabilities.argmax(1), probabilities.max(1)
    if objectness:
        score = score * (sigmoid(confidence) if activation == "sigmoid" else confidence)
    parts = [sent, confidence[:, None]] if objectness else [sent]
    post = {"kind": "detection", "layout": layout, "boxes": "b", "format": fmt, "unit": unit, "activation": activation,
            "threshold": threshold, "iou": limit, "most": most, "objectness": objectness, "background": background,
            "class_agnostic": agnostic}
    if layout == "anchors-first":
        outputs = [("b", [1, "A", 4 + objectness + raw_count], np.hstack([*parts, raw])[None])]
    elif layout == "anchors-last":
        outputs = [("b", [1, 4 + objectness + raw_count, "A"], np.hstack([*parts, raw]).T[None])]
    elif layout == "separate":
        outputs = [("s", [1, "A", raw_count], raw[None]), ("b", [1, "A", 4], sent[None])]
        post["scores"] = "s"
    elif layout == "final":
        score = np.float32(score).astype(float)
        outputs = [("b", ["D", 4], sent), ("c", ["D"], cls + background), ("s", ["D"], score)]
        post |= {"scores": "s", "classes": "c"}
    else:
        score = np.float32(score).astype(float)
        outputs = [("b", [1, "D", 6], np.hstack([sent, score[:, None], (cls + background)[:, None]])[None])]
    keep = score >= threshold
    boxes, cls, score = boxes[keep], cls[keep], score[keep]
    kept = nms(boxes, score, cls, limit, agnostic, most)

    image = None
    if fit or unit == "relative":
        image = declared(width=64, height=64, layout="nhwc", fit=fit or "stretch", exif_orientation=True)
    if fit:
        (width, height) = picture
        if fit == "letterbox":
            inner, at = letterbox_plan(picture, (64, 64), "centre")
            step, origin = np.array([width / inner[0], height / inner[1]]), np.array(at)
        elif fit == "crop":
            short = min(picture)
            resized = (64, int(64 * height / width)) if width <= height else (int(64 * width / height), 64)
            origin = -np.array([round((resized[0] - 64) / 2), round((resized[1] - 64) / 2)])
            step = np.array([width / resized[0], height / resized[1]])
        else:
            step, origin = np.array([width / 64, height / 64]), np.zeros(2)
        boxes = (boxes - np.tile(origin, 2)) * np.tile(step, 2)
        boxes = np.clip(boxes, 0, [width, height, width, height])
    expected = [{"objects": [{"class": int(cls[k]), "label": labels[cls[k]], "score": float(score[k]), "box": boxes[k].tolist()} for k in kept]}]
    output_case(name, post, outputs, expected, labels, image, picture if fit else None)


def detections():
    detection_case("YOLOv8", "anchors-last", "cxcywh")
    detection_case("YOLOv8 in a letterbox", "anchors-last", "cxcywh", fit="letterbox")
    detection_case("YOLOv5 in a letterbox, portrait", "anchors-first", "cxcywh", objectness=True, fit="letterbox", picture=(99, 333))
    detection_case("YOLOX with logits", "anchors-first", "cxcywh", objectness=True, activation="sigmoid", threshold=0.2)
    detection_case("SSD with background", "separate", "yxyx", "relative", "softmax", background=True, fit="stretch", threshold=0.4)
    detection_case("RetinaNet, classes in each other's way", "separate", "xyxy", activation="sigmoid", agnostic=True)
    detection_case("cut from the middle", "anchors-last", "xywh", fit="crop")
    detection_case("the best three", "anchors-last", "cxcywh", most=3)
    detection_case("final boxes", "final", "yxyx", "relative", fit="stretch", limit=1.0)
    detection_case("final boxes numbered from 1", "final", background=True, limit=1.0)
    detection_case("rows", "rows", limit=0.3)
    detection_case("nothing", "rows", threshold=1.0)


def write(name, cases):
    text = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (HERE / name).write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    images()
    tables()
    bodies()
    classes()
    detections()
    write("preprocess.json", CASES)
    write("postprocess.json", OUTPUTS)
