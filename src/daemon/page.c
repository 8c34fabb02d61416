#include "page.h"

/* The build names the directories that hold the files to the assembler. */
#define EMBED(name, file)                                                                          \
	__asm__(".section .rodata\n" #name "_begin:\n"                                             \
		".incbin \"" file "\"\n" #name "_end:\n"                                           \
		".previous\n");                                                                    \
	extern const uint8_t name##_begin[] __attribute__((visibility("hidden")));                 \
	extern const uint8_t name##_end[] __attribute__((visibility("hidden")))

EMBED(index_html, "index.html");
EMBED(page_css, "page.css");
EMBED(page_js, "page.js");
EMBED(samples_js, "samples.js");
EMBED(icon_svg, "icon.svg");
EMBED(uplot_js, "uPlot.iife.min.js");
EMBED(uplot_css, "uPlot.min.css");
EMBED(uplot_license, "uPlot.LICENSE");

#define HTML   "text/html; charset=utf-8"
#define STYLE  "text/css; charset=utf-8"
#define SCRIPT "text/javascript; charset=utf-8"
#define TEXT   "text/plain; charset=utf-8"

static const struct {
	const char *path, *type;
	const uint8_t *begin, *end;
} files[] = {
	{"/", HTML, index_html_begin, index_html_end},
	{"/page.css", STYLE, page_css_begin, page_css_end},
	{"/page.js", SCRIPT, page_js_begin, page_js_end},
	{"/samples.js", SCRIPT, samples_js_begin, samples_js_end},
	{"/icon.svg", "image/svg+xml", icon_svg_begin, icon_svg_end},
	{"/uplot.js", SCRIPT, uplot_js_begin, uplot_js_end},
	{"/uplot.css", STYLE, uplot_css_begin, uplot_css_end},
	{"/uplot.txt", TEXT, uplot_license_begin, uplot_license_end},
};
_Static_assert(sizeof(files) / sizeof(files[0]) == PAGE_FILES, "the door tells how many");

void page_list(struct console_page out[PAGE_FILES])
{
	for (size_t i = 0; i < PAGE_FILES; i++)
		out[i] = (struct console_page){
			.path = files[i].path,
			.type = files[i].type,
			.content = {files[i].begin, (size_t)(files[i].end - files[i].begin)},
		};
}
