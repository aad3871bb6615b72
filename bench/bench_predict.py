"""Predictions: one sample at a time and in batches, against ONNX Runtime, PyTorch and JAX.

python bench/bench_predict.py [--peers ort,torch,jax] [--threads N] [--cases a,b] [--json FILE]

For one sample of the MLP narae is called in its three ways: the function of
`model.make_predict_function()`, `model(x)` and `model.predict(x)`. Peers: an ONNX Runtime session
of the model as PyTorch exports it, PyTorch in inference mode, a jitted JAX function of Keras's
stateless call. All take and give NumPy arrays.
"""

import os
import statistics
import tempfile

import numpy as np

from bench_training_step import _count
from frame import write_json
from training_models import DATA, KERAS, torch_models
from worker import arguments, take_turns

# case: model, batch, ways in which narae is called
CASES = {
    "mlp 1": ("mlp", 1, ("function", "call", "predict")),
    "mlp 256": ("mlp", 256, ("function", "predict")),
    "cnn 1": ("cnn", 1, ("function",)),
    "cnn 256": ("cnn", 256, ("function",)),
    "resnet18 1": ("resnet18", 1, ("function",)),
    "resnet18 256": ("resnet18", 256, ("function",)),
}


def sample(name, batch):
    x = DATA[name]()[0]
    return np.random.default_rng(0).normal(size=(batch, *x.shape[1:])).astype("float32")


def _narae(name, batch, way):
    import narae

    model, x = KERAS[name](narae)[0], sample(name, batch)
    function = {
        "function": model.make_predict_function(),
        "call": model,
        "predict": lambda x: model.predict(x, batch_size=batch, verbose=0),
    }[way]
    return _count(model), lambda: function(x)


def function_predictor(name, batch):
    return _narae(name, batch, "function")


def call_predictor(name, batch):
    return _narae(name, batch, "call")


def predict_predictor(name, batch):
    return _narae(name, batch, "predict")


def _torch_model(name, batch):
    """Returns the module, a batch in PyTorch's layout and the number of parameters."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model, x = torch_models(name)[0].eval(), sample(name, batch)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
    return model, x, sum(p.numel() for p in model.parameters())


def torch_predictor(name, batch):
    import torch

    model, x, parameters = _torch_model(name, batch)

    def predict():
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return parameters, predict


def ort_predictor(name, batch):
    import onnxruntime
    import torch

    model, x, parameters = _torch_model(name, batch)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        torch.onnx.export(model, (torch.from_numpy(x),), file.name, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        session = onnxruntime.InferenceSession(file.name, options, ["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return parameters, lambda: session.run(None, {given.name: x})


def jax_predictor(name, batch):
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras

    model, x = KERAS[name](keras)[0], sample(name, batch)
    trained = [v.value for v in model.trainable_variables]
    fixed = [v.value for v in model.non_trainable_variables]
    predict = jax.jit(lambda trained, x: model.stateless_call(trained, fixed, x)[0])
    return _count(model), lambda: np.asarray(predict(trained, x))


def prepare(way, name, batch):
    """The job of a worker."""
    parameters, predict = globals()[f"{way}_predictor"](name, batch)
    for _ in range(3):
        predict()

    def run(count):
        for _ in range(count):
            predict()

    return {"parameters": parameters}, run


def check(told) -> None:
    if len({answer["parameters"] for answer in told.values()}) > 1:
        raise RuntimeError(f"expected models of one size. Received: {told}")


def main() -> None:
    parser = arguments(__doc__, peers="ort,torch,jax", seconds=0.05)
    parser.add_argument("--cases", default=",".join(CASES))
    options = parser.parse_args()
    print(f"predictions, threads: {options.threads}; best and median us, ratio to the function")
    rows = {}
    for case in options.cases.split(","):
        name, batch, ways = CASES[case]
        ways = [*ways, *filter(None, options.peers.split(","))]
        jobs = {way: [way, name, batch] for way in ways}
        _, seconds = take_turns("bench_predict:prepare", jobs, options, check)
        rows[case] = {way: [min(t), statistics.median(t)] for way, t in seconds.items()}
        ours = rows[case]["function"][0]
        cells = (
            f"{way} {best * 1e6:.1f} {median * 1e6:.1f} {best / ours:.2f}x"
            for way, (best, median) in rows[case].items()
        )
        print(f"{case:14}" + " | ".join(cells), flush=True)
        write_json(rows, options)


if __name__ == "__main__":
    main()
