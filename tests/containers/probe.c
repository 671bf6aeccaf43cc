/*
 * Makes system calls by number, one after the other, each with the same useless arguments, and
 *prints what the kernel answered: "NUMBER ANSWER" a line. Needs no library, so that it makes no
 *call besides but write and exit_group.
 *
 *	probe [-32] NUMBER...
 *
 * With -32 the calls are those of the 32-bit table (int $0x80).
 */

static long call(long number, long a, long b, long c)
{
	long answer;
	register long d __asm__("r10") = -1;
	register long e __asm__("r8") = -1;
	register long f __asm__("r9") = -1;

	__asm__ volatile("syscall"
			 : "=a"(answer)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(d), "r"(e), "r"(f)
			 : "rcx", "r11", "memory");
	return answer;
}

static long call32(long number)
{
	int answer;

	__asm__ volatile("int $0x80"
			 : "=a"(answer)
			 : "a"(number), "b"(-1), "c"(-1), "d"(-1), "S"(-1), "D"(-1)
			 : "r8", "r9", "r10", "r11", "memory");
	return answer;
}

static char *text(char *end, long value)
{
	int negative = value < 0;
	unsigned long rest = negative ? -(unsigned long)value : (unsigned long)value;

	do {
		*--end = '0' + rest % 10;
		rest /= 10;
	} while (rest);
	if (negative)
		*--end = '-';
	return end;
}

static void tell(long number, long answer)
{
	char line[64], *end = line + sizeof(line), *start = end;

	*--start = '\n';
	start = text(start, answer);
	*--start = ' ';
	start = text(start, number);
	call(1, 1, (long)start, end - start);
}

__attribute__((used)) static void probe(long *stack)
{
	char **argument = (char **)(stack + 2);
	int old = 0;

	for (; *argument; argument++) {
		long number = 0;

		if ((*argument)[0] == '-') {
			old = 1;
			continue;
		}
		for (char *digit = *argument; *digit; digit++)
			number = 10 * number + *digit - '0';
		tell(number, old ? call32(number) : call(number, -1, -1, -1));
	}
	call(231, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n\tand $-16, %rsp\n\tcall probe\n\thlt\n");
