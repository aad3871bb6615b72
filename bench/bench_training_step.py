"""Training steps of twelve models, against PyTorch, JAX and TensorFlow.

python bench/bench_training_step.py --peers torch,compile,jax,tf,sklearn [--models a,b]
    [--threads N] [--hog] [--json FILE]

A step is forward, backward and update on one batch that is in memory. Peers: `torch` (eager, as
usually written), `compile` (torch.compile, fused optimizer), `jax` (one jitted function of Keras's
stateless calls, with donated state), `tf` (Keras's compiled train_step on TensorFlow), `sklearn`
(scikit-learn's networks, which are perceptrons only), `narae1` (narae with one thread) and
`narae_bf16` (narae under the policy mixed_bfloat16). Each library works in a process of its own
(see worker.py); the models are checked to have equal parameters, and equal losses from equal
weights where the weights can be copied; then the libraries take turns.
"""

import math
import os
import statistics
import tempfile

import numpy as np

from frame import geometric_mean, write_json
from training_models import DATA, KERAS, torch_models
from worker import arguments, peak_bytes, take_turns

CHECKED_STEPS = 4

# The libraries, each in its worker: a function of the model's name and of the file of weights that
# returns (number of trained parameters, step() -> loss as a float, run(n)).


def narae_step(name, weights):
    import narae

    narae.utils.set_random_seed(0)
    model, loss, optimizer = KERAS[name](narae)
    np.savez(weights, *model.get_weights())
    return _narae_runs(narae, name, model, loss, optimizer)


def _narae_runs(narae, name, model, loss, optimizer):
    base = peak_bytes()
    model.compile(optimizer, _keras_loss(narae, loss), jit_compile=True)
    x, y = DATA[name]()
    train = model.make_train_function()

    def step():
        return float(model.train_on_batch(x, y))

    def run(count):
        for _ in range(count):
            train(x, y)

    return base, _count(model), step, run


def narae_bf16_step(name, weights):
    import narae

    narae.mixed_precision.set_global_policy("mixed_bfloat16")
    model, loss, optimizer = KERAS[name](narae)
    with np.load(weights) as file:
        model.set_weights([file[key] for key in file.files])
    return _narae_runs(narae, name, model, loss, optimizer)


def jax_step(name, weights):
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras

    base = peak_bytes()
    model, loss, optimizer = _keras_model(keras, name, weights)
    optimizer.build(model.trainable_variables)

    def loss_of(trained, fixed, x, y):
        y_pred, fixed = model.stateless_call(trained, fixed, x, training=True)
        return loss(y, y_pred), fixed

    def update(state, x, y):
        trained, fixed, slots = state
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (value, fixed), gradients = gradient(trained, fixed, x, y)
        trained, slots = optimizer.stateless_apply(slots, gradients, trained)
        return value, (trained, fixed, slots)

    update = jax.jit(update, donate_argnums=0)
    parts = model.trainable_variables, model.non_trainable_variables, optimizer.variables
    state = tuple([jax.numpy.array(v.value) for v in part] for part in parts)
    x, y = (jax.device_put(a) for a in DATA[name]())

    def step():
        nonlocal state
        value, state = update(state, x, y)
        return float(value)

    def run(count):
        nonlocal state
        for _ in range(count):
            value, state = update(state, x, y)
        value.block_until_ready()

    return base, _count(model), step, run


def tf_step(name, weights):
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    base = peak_bytes()
    threads = len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model, loss, optimizer = _keras_model(keras, name, weights)
    model.compile(optimizer, loss)
    x, y = map(tf.constant, DATA[name]())
    train = tf.function(model.train_step, jit_compile=model.jit_compile)

    def step():
        model.reset_metrics()
        return float(train((x, y))["loss"])

    def run(count):
        for _ in range(count):
            train((x, y))

    return base, _count(model), step, run


def torch_step(name, weights, compiled=False):
    import torch

    base = peak_bytes()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    model, loss, kind, arguments = torch_models(name)
    losses = {
        "mse": torch.nn.functional.mse_loss,
        "binary": torch.nn.functional.binary_cross_entropy_with_logits,
        "classes": lambda z, y: torch.nn.functional.cross_entropy(z.flatten(0, -2), y.flatten()),
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = kind(trained, **arguments, **({"fused": True} if compiled else {}))
    x, y = map(torch.from_numpy, DATA[name]())
    if x.ndim == 4:  # NHWC to PyTorch's own layout
        x = x.permute(0, 3, 1, 2).contiguous()
        y = y.permute(0, 3, 1, 2).contiguous() if y.ndim == 4 else y
    x, y = (t.long() if t.dtype == torch.int32 else t for t in (x, y))

    def forward(x, y):
        return losses[loss](model(x), y)

    if compiled:
        forward = torch.compile(forward)

    def update():
        optimizer.zero_grad()
        value = forward(x, y)
        value.backward()
        optimizer.step()
        return value

    def run(count):
        for _ in range(count):
            update()

    return base, sum(p.numel() for p in trained), lambda: update().item(), run


def compile_step(name, weights):
    return torch_step(name, weights, compiled=True)


SKLEARN = {"mlp": (300, 100), "mlp_tabular": (50, 50, 50), "autoencoder": (256, 32, 256)}


def sklearn_step(name, weights):
    """Many batches to a call, as in scikit-learn's own `fit`, so that its checks cost nothing."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    base = peak_bytes()
    x, y = DATA[name]()
    values = {"solver": "sgd", "learning_rate_init": 0.01} if name == "mlp" else {"solver": "adam"}
    kind = MLPClassifier if name == "mlp" else MLPRegressor
    values |= {"alpha": 0, "momentum": 0, "batch_size": len(x), "shuffle": False, "random_state": 0}
    model = kind(hidden_layer_sizes=SKLEARN[name], **values)
    y = y if name == "autoencoder" else y.ravel()
    classes = {"classes": np.arange(10)} if name == "mlp" else {}
    scale = 1 if name == "mlp" else 2  # its squared loss is a half of the mean
    batches = 32
    many = np.tile(x, (batches, 1)), np.tile(y, (batches,) + (1,) * (y.ndim - 1))

    def step():
        model.partial_fit(x, y, **classes)
        return scale * float(model.loss_)

    def run(count):
        for start in range(0, count, batches):
            n = min(batches, count - start) * len(x)
            model.partial_fit(many[0][:n], many[1][:n], **classes)

    step()
    return base, sum(a.size for a in (*model.coefs_, *model.intercepts_)), step, run


def _keras_loss(k, loss):
    return {
        "mse": k.losses.MeanSquaredError(),
        "binary": k.losses.BinaryCrossentropy(from_logits=True),
        "classes": k.losses.SparseCategoricalCrossentropy(from_logits=True),
    }[loss]


def _keras_model(keras, name, weights):
    model, loss, optimizer = KERAS[name](keras)
    with np.load(weights) as file:
        model.set_weights([file[key] for key in file.files])
    return model, _keras_loss(keras, loss), optimizer


def _count(model) -> int:
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def prepare(library, name, weights):
    """The job of a worker."""
    make = globals()[f"{library}_step"]
    base, parameters, step, run = make(name, weights)
    losses = [step() for _ in range(CHECKED_STEPS)]
    run(1)
    return {"parameters": parameters, "losses": losses, "bytes": peak_bytes() - base}, run


# The driver


def check(name, told) -> None:
    """Raises when the libraries do not train the same model."""
    ours = told["narae"]
    for library, other in told.items():
        if other["parameters"] != ours["parameters"]:
            raise RuntimeError(f"{name}: parameters {ours['parameters']}, {library}: {other}")
        if library in ("torch", "compile", "sklearn"):  # other weights: a loss of the same size
            close = np.allclose(other["losses"][0], ours["losses"][0], rtol=0.5)
        elif library == "narae1":  # any number of threads gives the same bits
            close = other["losses"] == ours["losses"]
        elif library == "narae_bf16":  # 64 roundings, each of 2^-9, that go their own ways, of the
            # height that the curve falls from: ResNet-18's loss is a fiftieth after four steps
            scale = 2**-9 * 64**0.5 * ours["losses"][0]
            close = np.allclose(other["losses"], ours["losses"], rtol=0, atol=scale)
        else:  # equal weights: equal up to rounding, which the steps amplify
            close = np.allclose(other["losses"], ours["losses"], rtol=1e-2)
        if not close:
            raise RuntimeError(f"{name}: losses {ours['losses']}, {library}: {other['losses']}")


def run_model(name, libraries, options) -> dict:
    """Returns what was told and measured of each library for one model."""
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.npz")
        jobs = {
            x: [x.removesuffix("1"), name, weights]
            for x in libraries
            if x != "sklearn" or name in SKLEARN
        }
        told, seconds = take_turns(
            "bench_training_step:prepare", jobs, options, lambda told: check(name, told)
        )
    return {
        library: {
            "best": min(times),
            "median": statistics.median(times),
            "bytes": told[library]["bytes"],
            "parameters": told[library]["parameters"],
        }
        for library, times in seconds.items()
    }


def show(name, row) -> None:
    """Prints a model's line: best and median ms, megabytes, and for peers the ratio to narae."""
    ours = row["narae"]
    cells = []
    for library, got in row.items():
        text = f"{got['best'] * 1e3:9.3f} {got['median'] * 1e3:9.3f} {got['bytes'] / 1e6:6.0f}"
        if library != "narae":
            text += f" {got['best'] / ours['best']:6.2f}x"
        cells.append(text)
    print(f"{name:12}" + " |".join(cells), flush=True)


def main() -> None:
    parser = arguments(__doc__, peers="torch", seconds=0.1)
    parser.add_argument("--models", default=",".join(KERAS))
    options = parser.parse_args()
    libraries = ["narae", *filter(None, options.peers.split(","))]

    print(f"a training step, threads: {options.threads}; per library: best ms, median ms, MB")
    print(f"{'':12}" + " |".join(f"{library:>26}" for library in libraries))
    rows = {}
    for name in options.models.split(","):
        rows[name] = run_model(name, libraries, options)
        show(name, rows[name])
        write_json(rows, options)
    for library in libraries[1:]:
        ratios = [
            row[library]["best"] / row["narae"]["best"] for row in rows.values() if library in row
        ]
        print(f"geometric mean of {library} / narae: {geometric_mean(ratios):.2f}")
    fastest = [
        min(peers) / row["narae"]["best"]
        for row in rows.values()
        if (peers := [row[x]["best"] for x in row if not x.startswith("narae")])
    ]
    if fastest:
        print(f"geometric mean of the fastest peer / narae: {geometric_mean(fastest):.2f}")


if __name__ == "__main__":
    main()
