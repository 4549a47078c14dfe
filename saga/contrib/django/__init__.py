"""A Django app: ``INSTALLED_APPS += ["saga.contrib.django"]``."""
