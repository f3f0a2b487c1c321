"""``python -m diffad_jax`` is ``python -m diffad_jax.main`` and ``diffad``."""

from diffad_jax.main import main

main()
