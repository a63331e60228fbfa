"""Measures asyncfetch beside its peers and the floor, on this machine, over its loopback: `python -m bench`.

How it is done, so that a figure can be believed or doubted:

- Each row is a program of its own for each round. It imports, connects, makes one request and waits; the clock runs
  from when it is told to go until its work is done. Imports do not count; the connections behind the first do. Rows on
  asyncio run on uvloop; all read the same number of objects at once.
- Rounds are interleaved and the order in each is drawn anew, so that a machine that slows down slows down all. Medians
  are printed, with the least and the most beside.
- The work is the same: every byte hashed with BLAKE3 and on disk under its digest, by rename. When the clock stands the
  files are hashed again, and a row whose files are not the objects has no figures. Rows that make no digest, or keep
  nothing, say so in the table.
- CPU is that of the row's whole process tree, helper threads and children too. Memory is the most that the tree was
  seen to hold. Servers are not counted, but they run on the same cores: wall time is theirs too: CPU is steadier.
- Caches are on tmpfs where there is room, in a new directory for each run; memory and storage are touched before.
- The floors do what cannot be left out, and nothing that makes a client: a bare protocol, bare decoding.
"""
