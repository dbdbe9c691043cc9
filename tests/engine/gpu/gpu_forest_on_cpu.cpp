// Runs the GPU kernel on the CPU, as it stands: one fiber per CUDA thread.
//
// Fibers of a block run one at a time, each from barrier to barrier, in ascending or in
// descending order: what depends on the order lacks a barrier. A barrier that only some
// threads reach is an error. Shared memory begins as NaN.

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

struct Dimensions { int x = 1, y = 1, z = 1; };
static Dimensions threadIdx, blockIdx, blockDim;

static ucontext_t scheduler;
static ucontext_t *current;
static void barrier() { swapcontext(current, &scheduler); }

#define __global__
#define __device__
#define __shared__
#define __launch_bounds__(...)
#define __syncthreads() barrier()

using std::exp;
static int max(int a, int b) { return a > b ? a : b; }
static int min(int a, int b) { return a < b ? a : b; }

#include "kernel.cu"

alignas(16) float shared_memory[1 << 16];

static std::function<void()> kernel;

struct Fiber {
    ucontext_t context;
    Dimensions index;
    bool over = false;
    std::unique_ptr<char[]> stack{new char[1 << 15]};

    static void run(unsigned low, unsigned high)
    {
        kernel();
        reinterpret_cast<Fiber *>(uintptr_t(low) | uintptr_t(high) << 32)->over = true;
    }

    void start()
    {
        over = false;
        getcontext(&context);
        context.uc_stack.ss_sp = stack.get();
        context.uc_stack.ss_size = 1 << 15;
        context.uc_link = &scheduler;
        const uintptr_t self = reinterpret_cast<uintptr_t>(this);
        makecontext(&context, reinterpret_cast<void (*)()>(run), 2, unsigned(self),
                    unsigned(self >> 32));
    }
};

// Returns 0, or 1 if threads of a block did not meet at a barrier.
static int launch(int blocks, bool descending)
{
    blockDim = {ROWS, WARPS, 1};
    std::vector<Fiber> fibers(ROWS * WARPS);
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        std::memset(shared_memory, 0xff, sizeof shared_memory);
        for (size_t i = 0; i < fibers.size(); ++i) {
            fibers[i].index = {int(i) % ROWS, int(i) / ROWS, 0};
            fibers[i].start();
        }
        size_t over = 0;
        while (over == 0) {
            for (size_t i = 0; i < fibers.size(); ++i) {
                Fiber &fiber = fibers[descending ? fibers.size() - 1 - i : i];
                threadIdx = fiber.index;
                current = &fiber.context;
                swapcontext(&scheduler, current);
                over += fiber.over;
            }
        }
        if (over != fibers.size())
            return 1;
    }
    return 0;
}

extern "C" int score(const Forest *forest, const float *rows, int num_rows, float *scores,
                     float *columns, int descending)
{
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    kernel = [=] {
        if (columns)
            score_global(forest, rows, num_rows, scores, columns);
        else
            score_shared(forest, rows, num_rows, scores);
    };
    return launch((num_rows + ROWS - 1) / ROWS, descending);
}

// What the tables' types must agree with.
extern "C" void constants(int out[3]) { out[0] = ROWS, out[1] = WARPS, out[2] = TREES; }
