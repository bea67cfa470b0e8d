import torch

from ssmvid.engine.peak import PeakMemory


def test_the_peak_is_what_was_added_since_the_last_look():
    peak = PeakMemory(torch.device("cpu"))
    torch.ones(2**24)  # 64 MiB, freed again; the kernel counts pages in batches, so a little may be missing
    assert 63 <= peak.mib() < 80
    torch.ones(2**22)
    assert 15 <= peak.mib() < 32
