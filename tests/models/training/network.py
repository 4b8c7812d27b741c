"""Feed-forward networks in plain numpy: forward, backward, Adam. Float64 throughout; export casts to float32."""

import numpy as np


class Dense:
    """y = x W + b, x of shape [n, inputs]."""

    def __init__(self, rng, inputs: int, outputs: int):
        self.params = [rng.normal(0.0, np.sqrt(2.0 / inputs), (inputs, outputs)), np.zeros(outputs)]

    def forward(self, x):
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, grad):
        self.grads = [self.x.T @ grad, grad.sum(axis=0)]
        return grad @ self.params[0].T


class Conv3x3:
    """3x3 convolution with one pixel of zero padding, x of shape [n, channels, h, w]; weights are ONNX's [out, in, 3, 3]."""

    def __init__(self, rng, channels: int, filters: int):
        scale = np.sqrt(2.0 / (channels * 9))
        self.params = [rng.normal(0.0, scale, (filters, channels, 3, 3)), np.zeros(filters)]

    def forward(self, x):
        n, channels, h, w = x.shape
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        self.columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, channels * 9)
        self.shape = x.shape
        filters = self.params[0].shape[0]
        out = self.columns @ self.params[0].reshape(filters, -1).T + self.params[1]
        return out.reshape(n, h, w, filters).transpose(0, 3, 1, 2)

    def backward(self, grad):
        n, channels, h, w = self.shape
        filters = self.params[0].shape[0]
        flat = grad.transpose(0, 2, 3, 1).reshape(n * h * w, filters)
        self.grads = [(flat.T @ self.columns).reshape(self.params[0].shape), flat.sum(axis=0)]
        columns = (flat @ self.params[0].reshape(filters, -1)).reshape(n, h, w, channels, 3, 3)
        padded = np.zeros((n, channels, h + 2, w + 2))
        for row in range(3):
            for col in range(3):
                padded[:, :, row : row + h, col : col + w] += columns[..., row, col].transpose(0, 3, 1, 2)
        return padded[:, :, 1:-1, 1:-1]


class Relu:
    """max(x, 0)."""

    params: list = []
    grads: list = []

    def forward(self, x):
        self.mask = x > 0.0
        return x * self.mask

    def backward(self, grad):
        return grad * self.mask


class MaxPool2:
    """2x2 maximum with stride 2; of equal values the first takes the gradient."""

    params: list = []
    grads: list = []

    def forward(self, x):
        n, c, h, w = x.shape
        self.shape = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
        self.winner = blocks.argmax(axis=-1)
        return np.take_along_axis(blocks, self.winner[..., None], axis=-1)[..., 0]

    def backward(self, grad):
        n, c, h, w = self.shape
        blocks = np.zeros((n, c, h // 2, w // 2, 4))
        np.put_along_axis(blocks, self.winner[..., None], grad[..., None], axis=-1)
        return blocks.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)


class Flatten:
    """[n, ...] to [n, product]."""

    params: list = []
    grads: list = []

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(x.shape[0], -1)

    def backward(self, grad):
        return grad.reshape(self.shape)


def softmax(logits):
    """Rows sum to one; shifted by the row's maximum so that nothing overflows."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def forward(layers, x):
    """Logits of a batch."""
    for layer in layers:
        x = layer.forward(x)
    return x


def fit(layers, x, y, *, seed: int, epochs: int, rate: float, batch: int = 50, decay: float = 1e-4, augment=None):
    """Adam on cross-entropy with a cosine schedule; `augment(rng, batch)` may alter each mini-batch."""
    rng = np.random.default_rng(seed)
    params = [(layer, i) for layer in layers for i in range(len(layer.params))]
    first = [np.zeros_like(layer.params[i]) for layer, i in params]
    second = [np.zeros_like(layer.params[i]) for layer, i in params]
    steps_per_epoch = -(-len(x) // batch)
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            pick = order[start : start + batch]
            inputs = augment(rng, x[pick]) if augment else x[pick]
            grad = softmax(forward(layers, inputs))
            grad[np.arange(len(pick)), y[pick]] -= 1.0
            grad /= len(pick)
            for layer in reversed(layers):
                grad = layer.backward(grad)
            step += 1
            now = rate * 0.5 * (1.0 + np.cos(np.pi * step / (epochs * steps_per_epoch)))
            for k, (layer, i) in enumerate(params):
                g = layer.grads[i]
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g * g
                update = (first[k] / (1.0 - 0.9**step)) / (np.sqrt(second[k] / (1.0 - 0.999**step)) + 1e-8)
                layer.params[i] = layer.params[i] - now * (update + decay * layer.params[i])
