"""Callbacks for training frameworks, one module each, which imports its framework.

=====================  ============================================  ===========================
framework              import                                        use
=====================  ============================================  ===========================
Lightning              ``steadygrad.integrations.lightning``         ``Trainer(callbacks=[...])``
Hugging Face Trainer   ``steadygrad.integrations.huggingface``       ``Trainer(callbacks=[...])``
skorch                 ``steadygrad.integrations.skorch``            ``NeuralNet(callbacks=[...])``
PyTorch-Ignite         ``steadygrad.integrations.ignite``            ``attach(trainer, ...)``
Stable-Baselines3      ``steadygrad.integrations.stable_baselines3``  ``learn(callback=...)``
Opacus                 ``steadygrad.integrations.opacus``            ``OutputOnly(layer)``
=====================  ============================================  ===========================

Accelerate and Opacus need no callback: `steadygrad.watch` takes their wrapped optimisers.
NeuralForecast and Darts train with Lightning: use its callback. NeuralForecast trains copies of the
models that it is given: the callback that you made tells what the latest copy of it watched.
"""
