"""The admin portal as an installed app, with a site of our own."""

from django.contrib.admin.apps import AdminConfig


class StaffAdminConfig(AdminConfig):
    default_site = "inframind.identity.admin_site.StaffSite"
