"""The core of Transfer Learning Studio: everything a page can do, without a page.

Importing it is light; TensorFlow, Keras, scikit-learn and SciPy are imported by the functions
that need them.
"""

__version__ = "0.1.0"
