"""One run at a time in a folder."""

import os
import signal
import subprocess
import sys

import pytest

from priorbench import UserError
from priorbench.store.lock import locked

pytestmark = pytest.mark.slow


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    code = (
        "import time\nfrom pathlib import Path\nfrom priorbench.store.lock import locked\n"
        f"with locked(Path({str(tmp_path)!r})):\n"
        "    print('in', flush=True)\n    time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    with pytest.raises(UserError, match=f"pid {holder.pid} on"), locked(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        pass
