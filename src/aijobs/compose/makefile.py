"""The Makefile: what a team does with its deployment every day, a word each."""

from __future__ import annotations

from aijobs.compose.model import Profile
from aijobs.compose.services import Deployment

_TEXT = """\
# make up                          build the image, start everything, wait until it is well
# make down                        stop it; jobs that run go back to their queues, data stays
# make logs [S=worker]             follow the logs
# make scale-workers N=5 [S=worker]
# make stats                       workers and what they run, and what containers use
# make health                      whether every service is there and well; fails where one is not
# make test                        the tests of the app, here
# make check                       whether these files are what `aijobs compose` writes

COMPOSE ?= docker compose
N ?= {replicas}
APP = {app}

.PHONY: up down restart logs ps scale-workers stats health dead test check env{phony}

up: .env
	$(COMPOSE) up --build --detach --wait

down:
	$(COMPOSE) {profiles}down

# The new image is built first, so that only the exchange itself takes time.
restart: .env
	$(COMPOSE) build
	$(COMPOSE) up --detach --wait

logs:
	$(COMPOSE) logs --follow --tail 100 $(S)

ps:
	$(COMPOSE) {profiles}ps

# The containers that run go on; more are added, or the newest taken away.
scale-workers: .env
	$(COMPOSE) up --detach --no-recreate --scale $(or $(S),{worker})=$(N) $(or $(S),{worker})

stats:
	$(COMPOSE) exec -T {worker} python -m aijobs workers -A $(APP)
	$(COMPOSE) stats --no-stream

health:
	@$(COMPOSE) {profiles}ps --all --format '{{{{.Service}}}} {{{{.State}}}} {{{{.Health}}}}' | \\
	awk '{{ print; unwell += ($$0 !~ / running healthy$$/) }} END {{ exit (NR == 0 || unwell > 0) }}'

dead:
	$(COMPOSE) exec -T {worker} python -m aijobs dead list -A $(APP)

test:
	python -m pytest

check:
	aijobs compose --check
{extra}
env: .env

# Each password is made up here, once; those that are there stay, and new services get theirs.
.env: .env.example
	@umask 077; \\
	if test -e $@; then awk 1 $@; else sed '/^# Written by/d; /^# digest/d' .env.example; fi > $@.new; \\
	mv $@.new $@; \\
	for name in $$(grep -o '^[A-Z_]*_PASSWORD=' .env.example); do \\
		grep -q "^$$name" $@ || echo "$$name" >> $@; \\
		value=$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \\n'); \\
		sed "s/^$$name\\$$/$$name$$value/" $@ > $@.new && mv $@.new $@; \\
	done; touch $@
	@git check-ignore --quiet $@ 2>/dev/null || echo "Mind that $@ holds secrets: put it into .gitignore."
"""
_TARGETS = {
    Profile.MONITORING: "\nmonitoring: .env\n\t$(COMPOSE) --profile monitoring up --detach --wait\n",
    Profile.LOAD: "\nload: .env\n\t$(COMPOSE) --profile load up --detach --wait\n",
}


def render(plan: Deployment) -> str:
    """The file's text, without its header."""
    worker = plan.workers[0]
    profiles = profiles_of(plan)
    return _TEXT.format(
        app=plan.spec.app,
        replicas=worker.replicas,
        worker=worker.name,
        profiles="".join(f"--profile {name} " for name in profiles),
        phony="".join(f" {name}" for name in profiles),
        extra="".join(_TARGETS[name] for name in profiles),
    )


def profiles_of(plan: Deployment) -> list[Profile]:
    """The groups of services that run only when they are asked for."""
    return [name for name in Profile if any(one.profile is name for one in plan.services)]
