// Scores rows with a forest, one leaf after another as XGBoost adds them.
//
// A block owns ROWS rows, one per lane of each of its warps.
//
//     1  all warps turn the rows into columns, in shared memory if there is room:
//        from then on every split is `column >= threshold`
//     2  a round: all warps but the last each walk TREES trees side by side, and
//        leave the values of the leaves
//     3  meanwhile the last warp, the adder, adds up the values of the round before,
//        in the order of the trees
//
// Memory answers slowly: other warps, and a walk's other trees, fill the time. A lane's
// columns are all in its own bank of shared memory, whatever split it stands at. A tree's
// nodes lie close together, the first four levels in one line of 128 bytes, and are read
// through the caches.
//
// `kernel_tables.py` makes the tables, and `graph_tables.py` says what a column is. This file
// includes nothing: NVRTC compiles it, and a C++ compiler for the tests.

const int ROWS = 32;
const int WARPS = 16;
const int TREES = 4;
const int ADDER = WARPS - 1;
const int ROUND = ADDER * TREES;

// How a column is made from a row.
struct Column {
    int feature;
    int floored;    // whether the feature is rounded down first
    int set;        // where its set begins in `goes_right`; -1: numeric
    float largest;  // the largest known category; whatever is none has the code after it
    float missing;  // what NaN becomes: NaN, which goes left, or +inf; or a category's code
};

struct alignas(8) Node {
    float threshold;  // a leaf's is NaN: nothing leaves it
    unsigned next;    // left child, counted from the root, above `column_bits`; column below
};

struct Tree {
    int root;   // its first node
    int steps;  // that bring every row to a leaf
};

struct Forest {
    const Column *columns;
    const unsigned char *goes_right;
    const Node *nodes;
    const float *values;  // one per node; what a leaf adds
    const Tree *trees;    // filled up to a multiple of TREES with trees of no steps
    int num_features;
    int num_columns;
    int num_trees;
    int column_bits;
    float base;  // added to the sum of the leaves
    int logistic;
};

static_assert(sizeof(Column) == 20 && sizeof(Node) == 8 && sizeof(Tree) == 8, "");
static_assert(sizeof(Forest) == 64, "");

__device__ inline float column_value(const Column &column, float x, const unsigned char *goes_right)
{
    if (column.floored)
        x = floorf(x);
    if (x != x)
        x = column.missing;
    else if (column.set >= 0 && !(x >= 0 && x <= column.largest && x == floorf(x)))
        x = column.largest + 1;
    return column.set < 0 ? x : goes_right[column.set + int(x)];
}

// Brings the lane's row to a leaf of each of TREES trees, and notes the leaves' values.
__device__ inline void walk(const Forest &forest, const Tree *trees, const float *columns,
                            float *leaves)
{
    const unsigned column_mask = (1u << forest.column_bits) - 1;
    int root[TREES], node[TREES], steps = 0;
#pragma unroll
    for (int i = 0; i < TREES; ++i) {
        root[i] = node[i] = trees[i].root;
        steps = max(steps, trees[i].steps);
    }
    for (; steps > 0; --steps) {
        // Each loop asks for all that it needs before the next one waits for any of it.
        Node split[TREES];
        float x[TREES];
#pragma unroll
        for (int i = 0; i < TREES; ++i)
            split[i] = forest.nodes[node[i]];
#pragma unroll
        for (int i = 0; i < TREES; ++i)
            x[i] = columns[(split[i].next & column_mask) * ROWS];
#pragma unroll
        for (int i = 0; i < TREES; ++i)
            node[i] = root[i] + int(split[i].next >> forest.column_bits)
                      + (x[i] >= split[i].threshold);
    }
#pragma unroll
    for (int i = 0; i < TREES; ++i)
        leaves[i * ROWS] = forest.values[node[i]];
}

__device__ inline void score_block(const Forest &forest, const float *rows, int num_rows,
                                   float *scores, float *columns, float *leaves)
{
    const int lane = threadIdx.x, warp = threadIdx.y;
    const int row = blockIdx.x * ROWS + lane;

    // Lanes behind the last row do as it does, but keep the score to themselves.
    const float *features = rows + size_t(min(row, num_rows - 1)) * forest.num_features;
    for (int i = warp; i < forest.num_columns; i += WARPS) {
        const Column column = forest.columns[i];
        columns[i * ROWS + lane] =
            column_value(column, features[column.feature], forest.goes_right);
    }
    __syncthreads();

    float *now = leaves + lane, *before = now + ROUND * ROWS;
    float sum = 0;
    for (int first = 0; first < forest.num_trees + ROUND; first += ROUND) {
        if (warp < ADDER) {
            const int mine = warp * TREES;
            if (first + mine < forest.num_trees)
                walk(forest, forest.trees + first + mine, columns + lane, now + mine * ROWS);
        } else if (first > 0) {
            const int found = min(ROUND, forest.num_trees - (first - ROUND));
#pragma unroll 4
            for (int i = 0; i < found; ++i)
                sum += before[i * ROWS];
        }
        __syncthreads();
        float *const swap = now;
        now = before;
        before = swap;
    }
    if (warp == ADDER && row < num_rows) {
        sum += forest.base;
        scores[row] = forest.logistic ? float(1 / (1 + exp(-double(sum)))) : sum;
    }
}

extern __shared__ float shared_memory[];

// Both are launched with (num_rows + ROWS - 1) / ROWS blocks of ROWS x WARPS threads, of which a
// multiprocessor has room for three (before Ampere two) if 40 registers are enough for a thread.
#if __CUDA_ARCH__ >= 800
#define BOUNDS __launch_bounds__(ROWS *WARPS, 3)
#else
#define BOUNDS __launch_bounds__(ROWS *WARPS, 2)
#endif

// Shared memory: 2 * ROUND * ROWS floats, and num_columns * ROWS.
extern "C" __global__ void BOUNDS
score_shared(const Forest *forest, const float *rows, int num_rows, float *scores)
{
    const Forest copy = *forest;
    score_block(copy, rows, num_rows, scores, shared_memory + 2 * ROUND * ROWS, shared_memory);
}

// Shared memory: 2 * ROUND * ROWS floats; `columns` has num_columns * ROWS for each block.
extern "C" __global__ void BOUNDS
score_global(const Forest *forest, const float *rows, int num_rows, float *scores, float *columns)
{
    const Forest copy = *forest;
    columns += size_t(blockIdx.x) * copy.num_columns * ROWS;
    score_block(copy, rows, num_rows, scores, columns, shared_memory);
}
