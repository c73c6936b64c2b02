"""The voice's process: it dies, hangs and starts again, and never outlives the server."""

import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import anyio
import numpy as np
import psutil
import pytest

from spoken import SkipLoudly, bundled_models
from voxthread.core.failures import SynthesisError
from voxthread.engines.models import ModelFiles
from voxthread.engines.tts.piper import PiperTextToSpeech, open_piper
from voxthread.engines.tts.streaming_voice import StreamingVoice, Window, windows

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

LONG = "I would like to tell you a story about a man who lived by the sea. " * 6


@pytest.fixture
def models(skip_loudly: SkipLoudly) -> ModelFiles:
    return bundled_models(skip_loudly)


def the_worker() -> psutil.Process:
    (worker,) = [
        child
        for child in psutil.Process().children()
        if any("piper_worker" in part for part in child.cmdline())
    ]
    return worker


async def duration_ms(tts: PiperTextToSpeech, text: str) -> int:
    return sum([frame.duration_ms async for frame in tts.synthesize(text)])


async def test_a_worker_killed_in_a_sentence_fails_it_as_retryable_and_speaks_again(models: ModelFiles) -> None:
    async with open_piper(models) as tts:
        async with aclosing(tts.synthesize(LONG)) as speech:
            await anext(speech)
            the_worker().kill()
            with pytest.raises(SynthesisError) as raised:
                async for _ in speech:
                    pass
        assert (raised.value.code, raised.value.retryable) == ("tts.worker_died", True)
        assert await duration_ms(tts, "Here I am again.") > 500


async def test_every_session_of_a_killed_worker_is_told(models: ModelFiles) -> None:
    told = 0
    async with open_piper(models) as tts:
        await tts.ready()

        async def say() -> None:
            nonlocal told
            with pytest.raises(SynthesisError):
                await duration_ms(tts, LONG)
            told += 1

        async with aclosing(tts.synthesize(LONG)) as speech, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(say)
            await anext(speech)
            the_worker().kill()
    assert told == 3


async def test_a_worker_that_cannot_load_is_an_error_not_a_hang(models: ModelFiles, tmp_path: Path) -> None:
    broken = tmp_path / "encoder.onnx"
    broken.write_bytes(b"not a network")
    command = [
        sys.executable,
        "-m",
        "voxthread.engines.tts.piper_worker",
        str(broken),
        str(broken),
        str(broken),
    ]
    tts = PiperTextToSpeech(command)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tts.run)
        with pytest.raises(SynthesisError) as raised:
            await tts.ready()
        tasks.cancel_scope.cancel()
    assert (raised.value.code, raised.value.retryable) == ("tts.unavailable", True)


async def test_a_worker_that_talks_nonsense_is_not_listened_to() -> None:
    tts = PiperTextToSpeech([sys.executable, "-c", "print('hello' * 10, flush=True); input()"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tts.run)
        with pytest.raises(SynthesisError):
            await tts.ready()
        tasks.cancel_scope.cancel()


async def test_a_first_clause_does_not_wait_for_the_long_sentences_of_others(models: ModelFiles) -> None:
    others = 0
    async with open_piper(models) as tts:
        await tts.ready()

        async def listen() -> None:
            nonlocal others
            async for _ in tts.synthesize(LONG):
                others += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(listen)
            async with aclosing(tts.synthesize("Sure, I can do that.")) as newcomer:
                await anext(newcomer)
            first_heard_after = others
            tasks.cancel_scope.cancel()
    assert first_heard_after <= 3 * 2


async def test_a_listener_that_takes_nothing_costs_nothing(models: ModelFiles) -> None:
    async with open_piper(models) as tts, aclosing(tts.synthesize(LONG * 5)) as speech:
        await anext(speech)
        assert await duration_ms(tts, LONG) > 10_000
        before = sum(the_worker().cpu_times()[:2])
        await anyio.sleep(0.3)
        assert sum(the_worker().cpu_times()[:2]) - before <= 0.02


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_worker_exits_when_its_server_is_gone(models: ModelFiles, how: signal.Signals) -> None:
    server = (
        "import anyio, psutil\n"
        "from voxthread.config import read_config\n"
        "from voxthread.engines.models import verify\n"
        "from voxthread.engines.tts.piper import open_piper\n"
        "async def main():\n"
        "    async with open_piper(verify(read_config().models_dir)) as tts:\n"
        "        await tts.ready()\n"
        "        print(psutil.Process().children()[0].pid, flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", server], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        lines = (line for line in process.stdout if line.strip().isdigit())
        worker = psutil.Process(int(next(lines)))
        os.kill(process.pid, how)
    worker.wait(5)


def test_windows_give_the_samples_of_the_whole_sentence(models: ModelFiles) -> None:
    voice = StreamingVoice(
        encoder=models.piper_encoder, decoder=models.piper_decoder, config=models.piper_config
    )
    latent = voice.encode([1, 0, *([20, 0, 35, 0, 61, 0] * 20), 2])
    frames = latent.shape[2]
    whole = voice.decode(latent, Window(0, frames, 0, frames))
    cut = np.concatenate([voice.decode(latent, window) for window in windows(frames)])
    assert cut.shape == whole.shape
    noise = np.sum((cut - whole) ** 2)
    assert 10 * np.log10(np.sum(whole**2) / max(noise, 1e-20)) > 100


def test_only_the_worker_imports_what_is_gpl() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, voxthread.engines.tts.piper; print('piper' in sys.modules)"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert loaded.strip() == b"False"
    sources = Path(sys.modules[PiperTextToSpeech.__module__].__file__ or "").parents[2].rglob("*.py")
    importers = [path.name for path in sources if "from piper" in path.read_text("utf-8")]
    assert importers == ["piper_worker.py"]
