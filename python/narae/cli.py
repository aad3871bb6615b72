"""The command line: `narae demo`, `narae info`, `narae bench`."""

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="narae", description="A small deep-learning library with hand-written kernels."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="train a small CNN on handwritten digits")
    demo.add_argument("--data", choices=("digits", "mnist"), default="digits")
    demo.add_argument("--epochs", type=_positive, help="default: 30 for digits, 3 for mnist")
    demo.add_argument("--output", default="demo", help="folder for the results (default: demo)")

    commands.add_parser("info", help="version, instruction sets, threads, memory, devices")

    bench = commands.add_parser("bench", help="speed of each kernel family on this machine")
    bench.add_argument("--threads", type=_positive, default=1)
    bench.add_argument("--family", action="append", help="only this one; may be repeated")
    bench.add_argument("--json", metavar="FILE", help="write the results there too")
    bench.add_argument("--plot", metavar="FILE", help="draw a roofline and bars (PNG, PDF, SVG)")

    arguments = parser.parse_args(argv)
    try:
        return _COMMANDS[arguments.command](arguments)
    except (OSError, ValueError, ImportError) as error:
        print(f"narae {arguments.command}: {error}", file=sys.stderr)
        return 1


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, received {text}")
    return value


def _demo(arguments) -> int:
    from narae import demo

    demo.run(data=arguments.data, epochs=arguments.epochs, folder=arguments.output)
    return 0


def _bench(arguments) -> int:
    from narae import bench

    bench.run(arguments.threads, arguments.family, arguments.json, arguments.plot)
    return 0


def _info(arguments) -> int:
    import platform

    import numpy as np

    import narae
    from narae import _core, config

    stats = config.memory_stats()
    lines = {
        "narae": narae.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "instruction sets built": ", ".join(_core.isas_built()),
        "instruction sets usable": ", ".join(_core.isas_supported()),
        "instruction set in use": config.isa(),
        "threads": f"{config.num_threads()} (default {_core.default_num_threads()})",
        "memory": f"{stats['allocated_bytes']} bytes in arrays, {stats['cached_bytes']} kept",
        **config.list_devices(),
    }
    for name, value in lines.items():
        print(f"{name:24} {value}")
    return 0


_COMMANDS = {"demo": _demo, "info": _info, "bench": _bench}
