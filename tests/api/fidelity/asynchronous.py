import asyncio
import contextvars

variable = contextvars.ContextVar("variable", default="unset")


async def work(n):
    await asyncio.sleep(0.001 * n)
    return n


async def main():
    variable.set("in main")
    return await asyncio.gather(*map(work, range(3)))


print(asyncio.run(main()), variable.get(), list(contextvars.copy_context().items()))
