#include <stddef.h>
#include "directed.h"
const struct directed directed_tests[] = { { "x", "p0 munmap(0,0)\n"}, {NULL,NULL}};
