# SPDX-License-Identifier: MIT
# Short ways to the common tasks. The build itself is Meson's; all it makes is under build/.

PREFIX ?= /usr/local
# Where Debian's linker and pkg-config look; Meson alone finds out only if dpkg-dev is installed.
LIBDIR ?= lib/$(shell gcc -print-multiarch 2>/dev/null)
QUIRE := build/release/src/cli/quire

.PHONY: all demo test soak bench lint format install clean help

all: ## Build the library, the quire command and the tests
	@tools/install-deps build
	@[ -f build/release/build.ninja ] || CC=gcc meson setup build/release
	@ninja -C build/release

$(QUIRE): FORCE
	@tools/install-deps build
	@[ -f build/release/build.ninja ] || CC=gcc meson setup build/release
	@ninja -C build/release src/cli/quire

demo: $(QUIRE) ## Replay the shipped recording of a real program (installs what is missing, builds)
	@for recording in examples/recordings/*.qrec; do $(QUIRE) run "$$recording" || exit; done

test: ## Build with gcc, clang and the sanitizers, and run all tests
	@tools/install-deps test
	@tools/run-tests

soak: all ## Compare with the running Linux kernel until told to stop (Ctrl-C)
	@ninja -C build/release soak

bench: $(QUIRE) ## Measure quire and the running Linux kernel side by side
	@$(QUIRE) bench

lint: ## clang-format, clang-tidy and cppcheck
	@tools/install-deps lint
	@tools/lint

format: ## Bring all C files into the style of .clang-format
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

install: ## Install below PREFIX (/usr/local), staged in DESTDIR if set
	@tools/install-deps build
	@[ -f build/install/build.ninja ] || CC=gcc meson setup -Dtests=false build/install
	@meson configure build/install --prefix=$(PREFIX) --libdir=$(LIBDIR)
	@ninja -C build/install
	@meson install -C build/install --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

clean: ## Remove everything that was built
	rm -rf build

help: ## Show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

FORCE:
