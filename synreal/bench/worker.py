"""The process of one run of a grid: ``python -m synreal.bench.worker ORDER.yaml [PLUGIN.py ...]``.

It is one of its own, so that a crash costs one run, and each run has its threads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from synreal.errors import SynrealError
from synreal.heap import keep_freed_memory
from synreal.streams import unfailing
from synreal.terminal import printable, word_warnings


def main(order: Path, plugins: list[Path]) -> int:
    """Make the run of a configuration, or go on with it.

    Args:
        order: YAML file of the configuration.
        plugins: Files to load before.

    Returns:
        The exit code.
    """
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    keep_freed_memory()
    word_warnings()
    with unfailing("stderr"):  # its log may lie on a disk that is full
        return _run(order, plugins)


def _run(order: Path, plugins: list[Path]) -> int:
    try:
        from synreal.plugins import load_plugin

        for file in plugins:
            load_plugin(file)
        from synreal.config import make_config, read_yaml
        from synreal.engine import run, run_folder

        config = make_config(read_yaml(order))
        folder = config.output.folder
        assert folder is not None
        resume = (folder / run_folder.RUN_FILE).is_file()
        if resume:  # what it was started with may leave more behind than what is asked for
            stored = make_config(run_folder.read(folder, "go on with").config)
            config = stored.model_copy(update={"output": stored.output.model_copy(update={"folder": folder})})
        run(config, resume=resume)
    except SynrealError as error:
        print(printable(f"Error: {error}", lines=True), file=sys.stderr)  # into a log, which people show
        return error.exit_code
    return 0


def _stop_with_parent() -> None:
    """Ask this process to stop once nobody holds the other end of its standard input: whoever started it is gone."""
    # Not sys.stdin: a process that is forked off meanwhile would wait for its lock.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _order, *_plugins = map(Path, sys.argv[1:])
    sys.exit(main(_order, _plugins))
