"""Reads `settings.ini`, so that a fact about the project is written once."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

settings = ConfigParser(delimiters=['='])
settings.read(Path(__file__).parent / 'settings.ini', encoding='utf-8')
project = settings['DEFAULT']

setup(
    name=project['lib_name'],
    version=project['version'],
    description=project['description'],
    long_description=(Path(__file__).parent / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    url=project['git_url'],
    author=project['author'],
    author_email=project['author_email'],
    license='Apache-2.0',
    keywords=project['keywords'].split(),
    python_requires=f">={project['min_python']}",
    packages=find_packages(include=['mtss', 'mtss.*']),
    install_requires=project['requirements'].split(),
    extras_require={
        'workflow': project['workflow_requirements'].split(),
        'peers': project['peers_requirements'].split(),
        'dev': ' '.join(project[f'{kind}_requirements'] for kind in ('dev', 'workflow', 'peers')).split(),
    },
    entry_points={'nbdev': [f"{project['lib_name']}={project['lib_path']}._modidx:d"]},
    zip_safe=False,
)
