# Written by `aijobs compose`, and yours to change: it does not overwrite what you changed.
# digest sha256:77b39df9a880b94a42bfce1a9ae614f1d0dc690727cdf5174a177b21ea02e95c

# make up                          build the image, start everything, wait until it is well
# make down                        stop it; jobs that run go back to their queues, data stays
# make logs [S=worker]             follow the logs
# make scale-workers N=5 [S=worker]
# make stats                       workers and what they run, and what containers use
# make health                      ask every service whether it is well
# make test                        the tests of the app, here
# make check                       whether these files are what `aijobs compose` writes

COMPOSE ?= docker compose
N ?= 2
APP = shop.worker:celery_app

.PHONY: up down restart logs ps scale-workers stats health dead test check env monitoring

up: .env
	$(COMPOSE) up --build --detach --wait

down:
	$(COMPOSE) --profile monitoring down

# The new image is built first, so that only the exchange itself takes time.
restart: .env
	$(COMPOSE) build
	$(COMPOSE) up --detach --wait

logs:
	$(COMPOSE) logs --follow --tail 100 $(S)

ps:
	$(COMPOSE) --profile monitoring ps

# The containers that run go on; more are added, or the newest taken away.
scale-workers: .env
	$(COMPOSE) up --detach --no-recreate --scale $(or $(S),worker)=$(N) $(or $(S),worker)

stats:
	$(COMPOSE) exec -T worker python -m aijobs workers -A $(APP)
	$(COMPOSE) stats --no-stream

health:
	@$(COMPOSE) --profile monitoring ps --format 'table {{.Service}}\t{{.Status}}'
	@! $(COMPOSE) --profile monitoring ps --format '{{.Service}} {{.Health}}' | grep unhealthy

dead:
	$(COMPOSE) exec -T worker python -m aijobs dead list -A $(APP)

test:
	python -m pytest

check:
	aijobs compose --check

monitoring: .env
	$(COMPOSE) --profile monitoring up --detach --wait

env: .env

# Every password is made up here, once; an .env that is there is left alone.
.env:
	@umask 077; while IFS= read -r line; do \
		case "$$line" in *_PASSWORD=) line="$$line$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;; esac; \
		printf '%s\n' "$$line"; \
	done < .env.example > $@.new && mv $@.new $@
	@git check-ignore --quiet $@ 2>/dev/null || echo "Mind that $@ holds secrets: put it into .gitignore."
