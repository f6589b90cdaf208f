"""One contract for every executor; that of Ray is tried in test_on_ray.py."""

import pytest

from priorbench.testing import parametrize_with_executor_checks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("looks_as_users_do")]


@parametrize_with_executor_checks("serial", timeout=10)
def test_serial_keeps_the_contract(check):
    check()


@parametrize_with_executor_checks("process", settings={"workers": 2}, timeout=10)
def test_process_keeps_the_contract(check):
    check()
