// A stand-in for NVIDIA's driver, libcuda.so.1: two GPUs whose memory is the host's, and whose
// one program is the GPU kernel, compiled for the CPU.
//
// It has the functions that cuda.core calls on our behalf; whatever else it asks for is not found.
// Streams do nothing before somebody waits for them, and what needs a context of the calling
// thread fails without one, as on a GPU. Names and numbers are the CUDA driver API's.

#include <dlfcn.h>

#include <cstdlib>
#include <deque>
#include <string>

#include "gpu_forest_on_cpu.cpp"

#define API extern "C" __attribute__((visibility("default"))) int

enum Result { SUCCESS, INVALID_VALUE = 1, INVALID_DEVICE = 101, NO_CONTEXT = 201, NOT_FOUND = 500 };

using Context = uintptr_t;  // a GPU's number and one more; 0 is none
using Work = std::function<void()>;

static const int GPUS = 2;
static thread_local Context context = 0;
static std::recursive_mutex machine;
using Lock = std::lock_guard<std::recursive_mutex>;

struct Stream {
    std::deque<Work> asked;
};
static Stream default_stream;
static Stream &of(Stream *stream) { return uintptr_t(stream) < 16 ? default_stream : *stream; }

static int ask(Stream *stream, Work work)
{
    const Lock lock(machine);
    if (!context)
        return NO_CONTEXT;
    of(stream).asked.push_back(work);
    return SUCCESS;
}

static int wait(Stream *stream)
{
    const Lock lock(machine);
    for (auto &asked = of(stream).asked; !asked.empty(); asked.pop_front())
        asked.front()();
    return SUCCESS;
}

static int allocate(void **memory, size_t size)
{
    *memory = context ? malloc(size) : nullptr;
    if (*memory)
        memset(*memory, 0xff, size);
    return *memory ? SUCCESS : NO_CONTEXT;
}

API cuInit(unsigned) { return SUCCESS; }
API cuGetExportTable(void **table, void *) { return *table = nullptr, NOT_FOUND; }  // NVRTC asks
API cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
API cuDeviceGetCount(int *count) { return *count = GPUS, SUCCESS; }
API cuDeviceGetAttribute(int *value, int attribute, int)
{
    switch (attribute) {
    case 75: return *value = 9, SUCCESS;           // COMPUTE_CAPABILITY_MAJOR
    case 97: return *value = 227 << 10, SUCCESS;   // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    case 115: return *value = 1, SUCCESS;          // MEMORY_POOLS_SUPPORTED
    default: return *value = 0, SUCCESS;
    }
}

API cuDevicePrimaryCtxRetain(Context *made, int device) { return *made = device + 1, SUCCESS; }
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxSetCurrent(Context wanted) { return context = wanted, SUCCESS; }
API cuCtxGetCurrent(Context *current) { return *current = context, SUCCESS; }
API cuCtxGetDevice(int *device) { return *device = context - 1, context ? SUCCESS : NO_CONTEXT; }

API cuCtxGetStreamPriorityRange(int *low, int *high) { return *low = *high = 0, SUCCESS; }
API cuStreamCreateWithPriority(Stream **made, unsigned, int)
{
    return *made = new Stream, context ? SUCCESS : NO_CONTEXT;
}
API cuStreamDestroy_v2(Stream *stream) { return wait(stream); }
API cuStreamSynchronize(Stream *stream) { return wait(stream); }
API cuStreamIsCapturing(Stream *, int *status) { return *status = 0, SUCCESS; }

API cuEventCreate(Stream ***made, unsigned flags)
{
    if (flags != 3)  // BLOCKING_SYNC, DISABLE_TIMING
        return INVALID_VALUE;
    return *made = new Stream *, context ? SUCCESS : NO_CONTEXT;
}
API cuEventDestroy_v2(Stream **event) { return delete event, SUCCESS; }
API cuEventRecord(Stream **event, Stream *stream) { return *event = stream, SUCCESS; }
API cuEventSynchronize(Stream **event) { return wait(*event); }

API cuMemAllocHost_v2(void **memory, size_t size) { return allocate(memory, size); }
API cuMemFreeHost(void *memory) { return free(memory), context ? SUCCESS : NO_CONTEXT; }
API cuMemAllocFromPoolAsync(void **memory, size_t size, void *, Stream *)
{
    return allocate(memory, size);
}
API cuMemFreeAsync(void *memory, Stream *) { return free(memory), SUCCESS; }
API cuDeviceGetMemPool(void **pool, int) { return *pool = &default_stream, SUCCESS; }
API cuMemPoolGetAttribute(void *, int, uint64_t *value) { return *value = 0, SUCCESS; }
API cuMemPoolSetAttribute(void *, int, uint64_t *) { return SUCCESS; }
API cuMemcpyAsync(void *to, void *from, size_t size, Stream *stream)
{
    return ask(stream, [=] { memcpy(to, from, size); });
}

struct Kernel {
    std::string name;
    int granted = 48 << 10;
};

API cuLibraryLoadData(void **made, const char *code, void *, void *, unsigned, void *, void *,
                      unsigned)
{
    // A cubin is an ELF file.
    return *made = &default_stream, memcmp(code, "\x7f" "ELF", 4) ? INVALID_VALUE : SUCCESS;
}
API cuLibraryUnload(void *) { return SUCCESS; }
API cuLibraryGetKernel(Kernel **made, void *, const char *name)
{
    return *made = new Kernel{name}, SUCCESS;
}
API cuKernelSetAttribute(int attribute, int value, Kernel *kernel, int device)
{
    if (attribute != 8 || value > 227 << 10)  // MAX_DYNAMIC_SHARED_SIZE_BYTES
        return INVALID_VALUE;
    return kernel->granted = value, context == Context(device + 1) ? SUCCESS : INVALID_DEVICE;
}

struct LaunchConfig {
    unsigned grid[3], block[3], shared_bytes;
    Stream *stream;
    void *attributes;
    unsigned num_attributes;
};

API cuLaunchKernelEx(const LaunchConfig *config, Kernel *called, void **arguments, void **)
{
    const auto forest = *static_cast<const Forest **>(arguments[0]);
    const auto rows = *static_cast<const float **>(arguments[1]);
    const auto count = *static_cast<int *>(arguments[2]);
    const auto scores = *static_cast<float **>(arguments[3]);
    const bool in_global = called->name == "score_global";
    const auto columns = in_global ? *static_cast<float **>(arguments[4]) : nullptr;
    const unsigned want[] = {unsigned(count + ROWS - 1) / ROWS, 1, 1, ROWS, WARPS, 1};
    if (memcmp(config, want, sizeof want) || int(config->shared_bytes) > called->granted)
        return INVALID_VALUE;
    return ask(config->stream, [=] { score(forest, rows, count, scores, columns, 0); });
}


API cuGetProcAddress_v2(const char *name, void **function, int, uint64_t, int *status)
{
    static void *const self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    *function = dlsym(self, (name + std::string("_v2")).c_str());
    if (!*function)
        *function = dlsym(self, name);
    if (status)
        *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
